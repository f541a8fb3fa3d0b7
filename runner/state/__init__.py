"""The train state."""
