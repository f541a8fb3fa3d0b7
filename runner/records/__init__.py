"""Offline teacher records: a teacher's outputs on disk, checked whenever it is read.

`layout` and `format` are the bytes of a record, `shards` and `manifest` a directory of
them, `reader` joins them to rows of data and refuses what does not belong together.
"""
