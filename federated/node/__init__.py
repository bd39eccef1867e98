"""The guardian of one provider's data."""
