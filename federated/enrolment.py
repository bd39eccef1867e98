"""How a node enrols: it signs, with its ledger key, the key by which the SuperLink will know it.

A one-time code says that the provider lets this node in, the signature that it is the node whose
key stands in the asset's statement. So neither a stolen code nor a stolen API key puts another node
in its place.

    data = NodeEnrolment(asset, code_digest(code), fleet_key).sign(node_key)
    found = open_enrolment(data, key, asset=asset, code=code)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from federated.errors import NodeError, PresenceError
from federated.fleet_key import FleetKey
from ledger.encoding import b64decode, b64encode, digest
from ledger.errors import LedgerError
from ledger.keys import SigningKey, VerifyKey
from ledger.statements import envelope

ENROLMENT_TYPE: Final = "application/vnd.rongshu.node-enrolment.v1+json"
CODE_NAMESPACE: Final = "rongshu/node-code/v1"


@dataclass(frozen=True)
class NodeEnrolment:
    """One node's key towards the SuperLink.

    Attributes:
        code: `code_digest` of the one-time code.
        fleet_key: public half of its P-384 key, as Flower writes it.
    """

    asset: str
    code: str
    fleet_key: bytes

    def sign(self, key: SigningKey) -> bytes:
        """Return the envelope, signed by the node's ledger key."""
        payload = {
            "asset": self.asset,
            "code": self.code,
            "fleet_key": b64encode(self.fleet_key),
        }
        return envelope.sign(ENROLMENT_TYPE, payload, key)


def code_digest(code: str) -> str:
    """Return the digest under which a code is stored and signed: `sha256:` and hex."""
    return "sha256:" + digest(CODE_NAMESPACE, code.encode()).hex()


def open_enrolment(data: bytes, key: VerifyKey, *, asset: str, code: str) -> NodeEnrolment:
    """Verify an enrolment.

    Args:
        data: the signed envelope.
        key: the node's, from the asset's statement.
        asset: whose node it must be.
        code: the code that came with it.

    Raises:
        PresenceError: not signed by `key`, malformed, or made for another asset or code.
    """
    try:
        found = envelope.open_(data, ENROLMENT_TYPE, key)
        fleet_key = FleetKey.public_of(b64decode(str(found.get("fleet_key"))))
    except (LedgerError, NodeError) as error:
        raise PresenceError(f"enrolment of {asset}: {error}") from None
    expected = {"asset": asset, "code": code_digest(code), "fleet_key": b64encode(fleet_key)}
    if found != expected:
        raise PresenceError(f"enrolment of {asset}: made for another node or code")
    return NodeEnrolment(asset, expected["code"], fleet_key)
