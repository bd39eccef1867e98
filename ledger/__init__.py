"""Facts that can be checked: the log, its formats and its verifier."""
