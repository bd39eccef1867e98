"""Who pays whom for a released job: integer cents, double entry."""
