"""Jobs: from the researcher's request to the release, with grants and receipts on the way."""
