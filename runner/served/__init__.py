"""Scores of rows that a server gives, kept on the disk as records."""
