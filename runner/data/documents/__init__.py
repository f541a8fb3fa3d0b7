"""Sources of documents: text files, JSON lines, and tables of columns."""
