"""A SuperLink's registry in memory, for tests of what the service makes of one; no network.

    market.app.state.link = FakeLink()
    link.known                 # Flower's number of each key that may connect

It has the public interface of `marketplace.fleet.link.Link` and `federated.superlink.runs.Runs` as
far as enrolment needs them, and refuses what the real one refuses (`tests/integration/deployed`
holds the two against each other).
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from federated.errors import KeyRefusedError, SuperLinkError


class FakeLink:
    """Registers keys; `away` makes it one that does not start."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.numbers = iter(range(2**63 + 1, 2**64))
        self.gone: set[bytes] = set()
        self.away = False
        self.during: Callable[[], None] = lambda: None

    def start(self) -> "FakeLink":
        if self.away:
            raise SuperLinkError("the SuperLink does not start")
        return self

    def stop(self) -> None:
        self.away = True

    def register(self, public_key: bytes) -> int:
        self.during()
        self.start()
        try:
            key = load_pem_public_key(public_key)
        except ValueError as error:
            raise KeyRefusedError("the SuperLink refuses: HTTP 400") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise KeyRefusedError("the SuperLink refuses: HTTP 400")
        if public_key in self.gone:
            raise KeyRefusedError("the SuperLink refuses: HTTP 409")
        if public_key not in self.known:
            self.known[public_key] = next(self.numbers)
        return self.known[public_key]

    def unregister(self, node_id: int) -> None:
        for key in [key for key, number in self.known.items() if number == node_id]:
            del self.known[key]
            self.gone.add(key)

    def registered(self) -> dict[bytes, int]:
        return dict(self.known)
