"""Rows of one tokenizer laid beside the same text in the tokens of another."""
