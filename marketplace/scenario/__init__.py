"""Plays the whole life of a use from one file."""
