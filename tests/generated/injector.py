"""The malicious signer: puts every fault into a generated market, each at a place of its own.

injector = Injector(market)            # replaces some lives, closes and indexes
market.run()
injector.lies                          # what each fault should be found as, and where
injector.evidence()                    # the journals and other evidence an auditor gets
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ledger.ids import short
from ledger.journal import read_journal
from ledger.reconcile import Evidence
from ledger.statements import Counts
from ledger.use_index import root_of
from tests.generated.faults import JOBS, Fault
from tests.generated.market import ACTIVE_NODES, Market
from tests.generated.node import Node, rewritten


@dataclass(frozen=True)
class Lie:
    """What a fault should be found as: the word, and a name that its finding must hold."""

    code: str
    name: str


# Closes and indexes.


@dataclass
class EpochFault:
    """A lie in a close or an index, at the first epoch from `start` on at which it can be told.

    Attributes:
        place: which node tells it; None for the operator's index.
        tell: does it, and returns what its finding must name; None where it cannot be told yet.
    """

    code: str
    place: int | None
    tell: Callable[[Market, Node | None, int], str | None]
    start: int = 0


def _last(market: Market) -> str:
    return f"entry {market.book.size - 1}"


def _close(**lie: Any) -> Callable[[Market, Node | None, int], str | None]:
    def tell(market: Market, node: Node | None, number: int) -> str | None:
        if node is None or node.closed is None:
            return None
        start = number * market.plan.epoch_entries
        if lie.get("start"):
            market.close(node, number, start=start + 1)
        elif lie.get("uses"):
            uses = sum(start <= i < start + market.plan.epoch_entries for i in node.uses)
            market.close(node, number, uses=uses + 1)
        elif lie.get("skipped"):
            market.close(node, number, skipped=1)
        else:
            counts = node.counts()
            if counts["completed"] + lie.get("completed", 0) < 0:
                return None
            counts = {name: value + lie.get(name, 0) for name, value in counts.items()}
            market.close(node, number, counts=Counts(**counts))
        return _last(market)

    return tell


def _leave_out(market: Market, node: Node | None, number: int) -> str | None:
    """Say nothing in this epoch; the next close or index goes on as if there had been none."""
    skipped = market.skipped.setdefault(node, number)
    if skipped == number:
        return None
    if node is None:
        market.index_uses(number)
    else:
        market.close(node, number)
    return _last(market)


def _fall_silent(market: Market, node: Node | None, _number: int) -> str | None:
    market.silent.add(node)
    return "use index" if node is None else short(node.asset)


def _more_tags(market: Market, _: Node | None, number: int) -> str | None:
    market.index_uses(number, tags=len(market.tags(number)) + 1)
    return _last(market)


def _other_tag(market: Market, _: Node | None, number: int) -> str | None:
    """Leave out an asset, and put a number in its place, so that the count is right."""
    tags = market.tags(number)
    if not tags:
        return None
    hidden = sorted([*tags[1:], market.random.randbytes(32)])
    market.index_uses(number, root=root_of(hidden))
    return _last(market)


EPOCHS = (
    EpochFault("wrong_span", 0, _close(start=1)),
    EpochFault("wrong_uses", 1, _close(uses=1)),
    EpochFault("wrong_counts", 2, _close(refused=1)),
    EpochFault("journal_gap", 3, _close(skipped=1)),
    EpochFault("close_gap", 4, _leave_out),
    EpochFault("uncounted_receipt", 19, _close(completed=-1)),
    EpochFault("wrong_index", None, _more_tags, 1),
    EpochFault("wrong_index_root", None, _other_tag, 3),
    EpochFault("index_gap", None, _leave_out, 5),
    EpochFault("missing_close", 14, _fall_silent, 9),
    EpochFault("missing_index", None, _fall_silent, 9),
)


class Injector:
    """Puts every fault into a market once, each at a job, a close or an index of its own.

    Args:
        market: before it runs.
        jobs: faults of jobs; all, unless told otherwise.
        epochs: faults of closes and indexes.
    """

    def __init__(
        self,
        market: Market,
        jobs: tuple[type[Fault], ...] = JOBS,
        epochs: tuple[EpochFault, ...] = EPOCHS,
    ) -> None:
        self.market = market
        self.faults: list[Fault] = []
        self.told: list[Lie] = []
        draw = market.random
        first, last = market.plan.jobs // 6, market.plan.jobs * 4 // 5
        places = sorted(draw.sample(range(first, last), len(jobs)))
        shuffled = draw.sample(jobs, len(jobs))
        self._jobs = dict(zip(places, shuffled, strict=True))
        self._epochs = list(epochs)
        market.injector = self

    def life(self, number: int) -> Fault | None:
        """The fault that takes the place of an honest job."""
        kind = self._jobs.get(number)
        if kind is None:
            return None
        market, draw = self.market, self.market.random
        researcher = draw.choice(market.researchers)
        if kind.at:
            nodes = [market.nodes[place] for place in kind.at]
        else:
            nodes = draw.sample(market.nodes[:14], kind.parties)
        fault = kind(market, number, [market.deal(node, researcher) for node in nodes])
        self.faults.append(fault)
        return fault

    def lie_at(self, node: Node | None, number: int) -> bool:
        """Tell what is due at this close or index instead of the truth."""
        market = self.market
        if node in market.silent:
            return True
        # After the first tenth of all epochs, and never two lies in one epoch of one speaker.
        for fault in self._epochs:
            speaker = None if fault.place is None else market.nodes[fault.place]
            if speaker is not node or number < 4 + fault.start:
                continue
            name = fault.tell(market, node, number)
            market.protected.add(number)
            if name is not None:
                self._epochs.remove(fault)
                self.told.append(Lie(fault.code, name))
                return True
            if fault.tell is _leave_out:
                return True
        return False

    @property
    def lies(self) -> list[Lie]:
        """Every fault that was told, and the two that are told to the auditor alone."""
        market = self.market
        return [
            *(Lie(fault.code, fault.named()) for fault in self.faults),
            *self.told,
            Lie("wrong_tag_key", market.idle.asset),
            Lie("damaged_journal", self._journal_of(market.leaver)),
        ]

    def _journal_of(self, node: Node) -> str:
        place = [*self.market.nodes, self.market.leaver].index(node)
        return f"journals/{place:03d}"

    def journals(self) -> Iterator[tuple[str, bytes]]:
        """The journals as the nodes hand them out; one node gives none."""
        market = self.market
        nodes = [*market.nodes, market.leaver]
        for (name, data), node in zip(market.journals(), nodes, strict=True):
            if node is market.nodes[ACTIVE_NODES - 1]:
                continue
            if node is market.leaver:
                yield name, data.replace(b'"kind":"close"', b'"kind":"clone"', 1)
            elif node.asset in market.tampered:
                lines = market.tampered[node.asset](list(read_journal(data).lines))
                yield name, rewritten(data, node.key, lines, market.now)
            else:
                yield name, data

    def evidence(self) -> Evidence:
        """What an auditor holds."""
        market = self.market
        keys = market.tag_keys() | {market.idle.asset: bytes(32)}
        return Evidence(
            journals=self.journals(),
            tag_keys=keys,
            canaries=market.canaries,
            planter=market.researchers[-1].id,
            roster=market.roster,
            results=market.results,
            opened=set(range(market.book.size)) - market.erased,
        )
