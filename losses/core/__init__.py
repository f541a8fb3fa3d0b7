"""The loss interface, loss terms and vocabulary sums."""
