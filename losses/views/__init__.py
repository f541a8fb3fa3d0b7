"""Losses of second views of the batch (`models.Views`)."""
