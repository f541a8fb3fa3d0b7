"""The way out: a run's student as a published model, with tokenizer and card."""
