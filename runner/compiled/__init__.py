"""What a compiled program says of itself: loops and collectives, from its text."""
