"""Routing of tokens to experts: what it keeps beside its parameters."""
