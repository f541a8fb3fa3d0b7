"""Soups: means of the weights of runs."""
