"""Witnesses, groups of them, and which sets of them are a quorum (C2SP tlog-policy).

Decides which names a policy may give and refer to, and which groups have seen what some witnesses
have seen. Does not verify a signature: `ledger.trust` does.

    >>> seen_by((Group("two", 2, ("a", "b", "c")),), ["a", "c"])
    {'none', 'a', 'c', 'two'}
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.errors import PolicyError
from ledger.keys import CosignatureKey, VerifyKey

NONE = "none"
"""The quorum that asks for no witness."""

MAX_ITEMS = 100
"""Most logs, witnesses and groups, of each; C2SP asks for at least 32."""

_NO_TOKEN = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True)
class Witness:
    """A known witness.

    Attributes:
        name: its name in this policy, for groups and messages; no other meaning.
        key: the key of its cosignatures.
        url: where it takes checkpoints, or None.
    """

    name: str
    key: CosignatureKey
    url: str | None = None


@dataclass(frozen=True)
class Group:
    """Several witnesses or groups, of which some number must have seen a checkpoint.

    Attributes:
        name: its name in this policy.
        threshold: how many of the members are needed, at least 1.
        members: names of witnesses and of groups before it, each in one group only.
    """

    name: str
    threshold: int
    members: tuple[str, ...]


def seen_by(groups: Iterable[Group], witnesses: Iterable[str]) -> set[str]:
    """Return the names of all witnesses and groups that saw what these witnesses saw.

    Args:
        groups: each after the ones it names.
        witnesses: names of witnesses; others do no harm.
    """
    # One pass in order decides, since a group stands after what it names.
    seen = {NONE, *witnesses}
    for group in groups:
        if sum(member in seen for member in group.members) >= group.threshold:
            seen.add(group.name)
    return seen


class Names:
    """Everything a policy has named so far: what may still be named, and referred to.

    Every method raises `PolicyError` where the policy may not go on like this.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.publics: set[bytes] = set()
        self.cosigners: set[bytes] = set()
        self.key_ids: set[tuple[str, bytes]] = set()
        self.defined: set[str] = set()
        self.grouped: set[str] = set()

    def add_log(self, key: VerifyKey) -> None:
        """Take in the key of a known log."""
        self._count("logs")
        self._add_key(key, self.publics)

    def add_recovery(self, key: VerifyKey) -> None:
        """Take in a recovery key."""
        self._count("recovery keys")
        self._add_key(key, self.publics)

    def add_witness(self, witness: Witness) -> None:
        """Take in a witness."""
        self._count("witnesses")
        self._define(witness.name)
        self._add_key(witness.key, self.cosigners)
        if witness.url is not None:
            check_token(witness.url, f"the URL of witness {witness.name[:80]!r}")

    def add_group(self, group: Group) -> None:
        """Take in a group; its members must be known, and in no group yet."""
        shown = repr(group.name[:80])
        self._count("groups")
        if not 1 <= group.threshold <= len(group.members):
            raise PolicyError(
                f"group {shown} asks for {group.threshold} of {len(group.members)} members"
            )
        for member in group.members:
            if member not in self.defined:
                raise PolicyError(
                    f"group {shown} names {member[:80]!r}, which no line before it defines"
                )
            if member in self.grouped:
                raise PolicyError(f"{member[:80]!r} is a member of a group twice")
            self.grouped.add(member)
        self._define(group.name)

    def check_quorum(self, name: str) -> None:
        """Refuse a quorum that nothing is called."""
        if name != NONE and name not in self.defined:
            raise PolicyError(f"the quorum is {name[:80]!r}, which no line before it defines")

    def _define(self, name: str) -> None:
        check_token(name, "a name")
        if name == NONE or name in self.defined:
            raise PolicyError(f"the name {name[:80]!r} is taken; choose another one")
        self.defined.add(name)

    def _add_key(self, key: VerifyKey | CosignatureKey, publics: set[bytes]) -> None:
        if key.public in publics:
            raise PolicyError(f"the public key of {key.name[:80]!r} stands in the policy twice")
        # A key id has 32 bits: somebody can make a second key that shares it.
        if (key.name, key.key_id) in self.key_ids:
            raise PolicyError(f"two keys of {key.name[:80]!r} share the id {key.key_id.hex()}")
        publics.add(key.public)
        self.key_ids.add((key.name, key.key_id))

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        if self.counts[what] > MAX_ITEMS:
            raise PolicyError(f"the policy has more than {MAX_ITEMS} {what}")


def check_token(text: str, what: str) -> None:
    """Refuse what cannot stand as one word of a policy.

    Raises:
        PolicyError: empty, or with a space, a control character or a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise PolicyError(f"{what} holds a lone surrogate") from None
    if not text or _NO_TOKEN.search(text):
        raise PolicyError(f"{what} is empty, or holds a space or a control character")
