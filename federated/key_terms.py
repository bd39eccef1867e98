"""Under whose key an encrypted sum may be, where no single holder of the key is acceptable.

Part of what an agreement fixes (`federated.preparation`): where a provider does not want one party
alone to open a sum, it says how many must open it together, and who may be among them. Without it,
a sum may be under a key of the researcher's own.

    terms = SharedKey.parse({"threshold": 2, "holders": ["participant:3f…", "participant:a0…"]})
    terms.missing(job.encryption_key)    # what the key lacks, in words; empty if nothing

Who holds shares is what a key says of itself: `privacy.paillier.threshold_key` checks that as many
open it as it says, and nobody can check who has the shares but its dealer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from federated.agreed import known_table, whole
from federated.errors import PreparationError
from ledger.errors import EncodingError
from ledger.ids import parse_id
from privacy.paillier import is_shared, named_holders
from privacy.paillier.threshold_key import MAX_HOLDERS

_KEYS = ("threshold", "holders")
_LEAST = 2
"""One holder alone would be what this is to exclude."""


@dataclass(frozen=True)
class SharedKey:
    """What the key of an encrypted sum must be.

    Attributes:
        threshold: Fewest holders that open it together.
        holders: Ids of the participants who may hold a share, ascending.
    """

    threshold: int
    holders: tuple[str, ...]

    @classmethod
    def parse(cls, given: Any) -> SharedKey:
        """Reads unverified TOML or JSON.

        Raises:
            PreparationError: Naming the key.
        """
        given = known_table("shared_key", given, _KEYS)
        threshold = whole("shared_key.threshold", given.get("threshold", _LEAST), _LEAST)
        holders = _holders(given.get("holders"))
        if not threshold <= len(holders) <= MAX_HOLDERS:
            raise PreparationError(
                "shared_key.holders", f"from {threshold} to {MAX_HOLDERS} participants are needed"
            )
        return cls(threshold, holders)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON, every key present; `parse` reads it back."""
        return {"threshold": self.threshold, "holders": list(self.holders)}

    def missing(self, key: Any) -> str:
        """Returns in words what a job's key lacks of this; empty if nothing.

        Args:
            key: The `encryption_key` of a signed job, whose form others check.
        """
        if not is_shared(key):
            return "the agreement asks for a key that holders share; see `job submit --shared-key`"
        if type(key.get("threshold")) is not int or key["threshold"] < self.threshold:
            return f"the agreement asks for a key that no fewer than {self.threshold} holders open"
        named = named_holders(key)
        if len(named) < self.threshold:
            return f"the key names fewer than {self.threshold} holders"
        others = sorted(named - set(self.holders))
        return f"the agreement does not name {others[0]} as a holder of the key" if others else ""


def _holders(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple):
        raise PreparationError("shared_key.holders", "a list of participants' ids is needed")
    for name in given:
        try:
            kind = parse_id(name)[0] if isinstance(name, str) else ""
        except EncodingError:
            kind = ""
        if kind != "participant":
            raise PreparationError("shared_key.holders", "one of them is no participant's id")
    if len(set(given)) != len(given):
        raise PreparationError("shared_key.holders", "a participant is named twice")
    return tuple(sorted(given))
