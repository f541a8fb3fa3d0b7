"""An experiment by hand: in a notebook, a step or a hundred at a time."""
