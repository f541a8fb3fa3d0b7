"""Vocabularies of `.gguf` files, by the kind of their model."""
