"""Comparisons among the secret numbers of three or more parties, over MPyC without a network."""
