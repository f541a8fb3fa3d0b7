"""Losses of a set of tokens at once: metrics, groups, bags, rows beside each other."""
