"""Flower's stock SuperLink as jobs use it; the only package that touches Flower's private parts.

process     starts `flower-superlink` on loopback and keeps it running
runs        the operator's side: registers nodes, begins a run, and is its Grid
fleet       a node's side: takes messages, gives replies
messages    how a message is split into Flower's objects and put together again
"""
