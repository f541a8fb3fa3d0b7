"""Weights of terms and tokens."""
