"""Conversations as data: chat templates, loss on replies, rows that cut no turn."""
