"""Text data: documents, tokenizers, packed rows."""
