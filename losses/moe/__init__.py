"""Losses on mixture-of-experts routers."""
