"""Loops and collectives of a compiled program, from its HLO text."""
