"""Series of numbers, some of which are missing or hidden."""
