"""Weights in files, whoever reads them: of runs of ours, and of published models."""
