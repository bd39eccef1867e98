"""Parties of a computation on shares, without nodes: parcels go straight from one to the other.

outcome = together(Ranking((1, 1, 1), 100, (Value((0,)),)), [[5], [7], [-2]])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from privacy.child import Frames
from privacy.mpc import engine
from privacy.mpc.computation import Computation
from privacy.mpc.party import Party

Parcels = list[dict[int, bytes]]
"""For each receiver, what it is handed, by sender."""
Meddle = Callable[[int, Parcels], None]


def nothing(_number: int, _parcels: Parcels) -> None:
    """Hands everybody what was sent."""


def together(
    computation: Computation,
    values: Sequence[Sequence[int]],
    meddle: Meddle = nothing,
    heard: list[tuple[int, int, bytes]] | None = None,
) -> list[int]:
    """Run every party; return the one outcome.

    Args:
        computation: the same for all.
        values: each party's numbers.
        meddle: may change what is handed over, in the round with this number.
        heard: takes (sender, receiver, parcel) of every round.
    """
    with ExitStack() as stack:
        parties = [
            stack.enter_context(Party(computation, index, numbers))
            for index, numbers in enumerate(values)
        ]
        sent = [party.begin() for party in parties]
        number = 0
        while parties[0].outcome is None:
            number += 1
            parcels: Parcels = [
                {sender: boxes[receiver] for sender, boxes in enumerate(sent) if receiver in boxes}
                for receiver in range(len(parties))
            ]
            if heard is not None:
                heard += [
                    (sender, receiver, parcel)
                    for receiver, boxes in enumerate(parcels)
                    for sender, parcel in boxes.items()
                ]
            meddle(number, parcels)
            sent = [party.hear(boxes) for party, boxes in zip(parties, parcels, strict=True)]
        outcomes = [party.outcome for party in parties]
        assert all(outcome == outcomes[0] for outcome in outcomes)
        assert outcomes[0] is not None
        return outcomes[0]


def serve_without_sharing(frames: Frames) -> None:
    """The program of a party whose threshold is 0: each share is the number."""
    engine.threshold = lambda _parties: 0
    engine.serve(frames)


def serve_with_pickle(frames: Frames) -> None:
    """The program of a party that reads arrays as MPyC does by default."""
    engine.OPTIONS = ("--no-log", "--no-uvloop")
    engine.FORBIDDEN = ()
    engine.serve(frames)
