"""Three parties of a shared computation without nodes: parcels go straight from one to the other.

told = share_out(program)            # program(party) is a generator; told.results["a"], told.heard
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from privacy.replicated.party import Party

NAMES = ("a", "b", "c")
BINDING = bytes(range(32))
Program = Callable[[Party], Generator[Any, Any, Any]]
Meddle = Callable[[int, str, dict[str, bytes]], dict[str, bytes]]


@dataclass
class Told:
    """What came of it: results and what each party received, by name, and the rounds it took."""

    results: dict[str, Any] = field(default_factory=dict)
    heard: dict[str, list[bytes]] = field(default_factory=lambda: {name: [] for name in NAMES})
    parties: dict[str, Party] = field(default_factory=dict)
    rounds: int = 0

    @property
    def sent_bytes(self) -> int:
        return sum(len(data) for parcels in self.heard.values() for data in parcels)


def share_out(
    program: Program,
    meddle: Meddle = lambda _number, _name, parcels: parcels,
    *,
    begun: bool = True,
) -> Told:
    """Run a program at all three; it starts with their keys agreed, unless `begun` is False."""
    told = Told(parties={name: Party(NAMES, name, BINDING) for name in NAMES})

    def whole(party: Party) -> Generator[Any, Any, Any]:
        if begun:
            yield from party.begin()
        return (yield from program(party))

    talks = {name: whole(party) for name, party in told.parties.items()}
    arrived: dict[str, Any] = dict.fromkeys(NAMES)
    while len(told.results) < len(NAMES):
        sent = {}
        for name, talk in talks.items():
            if name in told.results:
                continue
            try:
                sent[name] = dict(talk.send(arrived[name]))
            except StopIteration as stop:
                told.results[name] = stop.value
        told.rounds += 1
        for name in NAMES:
            parcels = {peer: each[name] for peer, each in sent.items() if name in each}
            arrived[name] = meddle(told.rounds, name, parcels)
            told.heard[name] += arrived[name].values()
    told.rounds -= 1
    return told


def own(party: Party, owner: str, values: Any) -> Any:
    """The owner's values at the owner, None elsewhere."""
    return np.asarray(values, dtype=np.float64) if party.names[party.place] == owner else None
