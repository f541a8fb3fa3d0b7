"""Files that may come from a stranger: where they lie, what form they have."""
