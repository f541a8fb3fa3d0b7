"""Formats of teachers' scores, a module each: what a producer writes, as `Scored`."""
