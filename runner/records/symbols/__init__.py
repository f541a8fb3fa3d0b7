"""Bytes in fewer: frames of zstd, and the symbols that go into them."""
