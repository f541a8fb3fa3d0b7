"""Token ids of Megatron's preprocessing as data."""
