"""Assets with their data cards, and offers on them."""
