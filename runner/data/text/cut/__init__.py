"""Tokenizers cut to the tokens that some documents use."""
