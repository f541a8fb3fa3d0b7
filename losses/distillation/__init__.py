"""Losses between student and teacher logits."""
