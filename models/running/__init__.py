"""State of a model that follows its batches, and is not trained: running means."""
