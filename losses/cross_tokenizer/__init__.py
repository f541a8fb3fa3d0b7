"""Losses of a teacher of another tokenizer (`runner.Aligned`), over spans of text."""
