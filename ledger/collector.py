"""How often Python looks for cycles in what a process keeps.

A log, an auditor and a monitor keep what they read: a few objects for every entry, none of which
ever becomes part of a cycle. By default Python walks over the young ones after each 700 and over
all of them whenever a quarter was added: a sixth of the time of an append. Whoever runs a program
says once that it may do so more seldom; what becomes unreachable without a cycle, which is nearly
everything, is freed at once all the same.
"""

from __future__ import annotations

import gc

# Containers that were made and not freed before the youngest are walked over; and how many such
# walks before the next older ones are.
YOUNG = 50_000
OLDER = 10


def look_seldom() -> None:
    """Walk over what this process keeps more seldom; processes that it forks do the same."""
    gc.set_threshold(YOUNG, OLDER, OLDER)
