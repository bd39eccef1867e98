"""Maths that hides: fixed point, masks, encryption."""
