"""Epochs of the log: its schedule, the nodes' closes, and the operator's index of used assets."""
