"""What is read of the tables of an agreement (`federated.preparation`), each part alike.

table = known_table("link", given, ("columns", "threshold"))
least = whole("link.threshold", table.get("threshold", 560), 1)
"""

from collections.abc import Mapping, Sequence
from typing import Any

from federated.errors import PreparationError, suggestion

_MOST = 1 << 31


def known_table(
    field: str, given: Any, known: Sequence[str], *, top: bool = False
) -> Mapping[str, Any]:
    """Returns `given`, if it is a mapping with known keys only.

    Args:
        field: Its place, for messages.
        given: Unverified TOML or JSON.
        known: The keys that it may have.
        top: Whether its keys are named without it.

    Raises:
        PreparationError: It is none, or naming the key.
    """
    if not isinstance(given, Mapping):
        raise PreparationError(field, f"a table of keys is needed: {', '.join(known)}")
    for key in given:
        if key not in known:
            place = str(key) if top else f"{field}.{key}"
            raise PreparationError(place, f"unknown key{suggestion(str(key), known)}")
    return given


def whole(field: str, value: Any, least: int) -> int:
    """Returns a whole number of an agreement.

    Raises:
        PreparationError: It is none, or below `least`.
    """
    if type(value) is not int or not least <= value <= _MOST:
        raise PreparationError(field, f"a whole number from {least} up is needed")
    return value
