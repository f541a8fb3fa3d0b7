"""Bytes in fewer: frames of zstd, and the symbols of records of formats 3 and 4."""
