"""Generation: the choice of tokens from logits, and the loop with a cache."""
