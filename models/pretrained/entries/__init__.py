"""Entries of published files, and the parts of a family that they make up."""
