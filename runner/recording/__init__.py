"""Recording of teacher outputs."""
