"""Evidence over seeds: means, intervals, and paired differences from a baseline."""
