"""Negotiations, agreements, and the uses that agreements permit."""
