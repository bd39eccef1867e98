"""A job across providers, and the node that guards the data."""
