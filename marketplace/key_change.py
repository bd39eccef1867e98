"""Replaces a signing key, so that a crash at any point loses neither the old key nor the new.

    change_key(client)                             # the present key signs
    change_key(client, recovery=key)               # it is lost or stolen: the recovery key signs
    change_node_key(client, folder, asset)         # the node's present key signs
    change_node_key(client, folder, asset, lost=True)     # its provider signs in its place

The new key lies beside the old one (`….new`) until the log shows that it is in force; only then it
takes the old one's place. Run again after a crash, the same new key is used.
"""

from __future__ import annotations

from pathlib import Path

from ledger.keys import SigningKey, VerifyKey
from ledger.statements import Rotation
from marketplace.client import Client, ClientError
from marketplace.new_key import take_over, waiting_key

PARTY_KEY = "signing.key"
NODE_KEY = "node.key"


def change_key(
    client: Client,
    *,
    recovery: SigningKey | None = None,
    new_recovery: VerifyKey | None = None,
) -> SigningKey:
    """Give the party a new signing key and return it, once a checkpoint covers the change.

    Args:
        client: the party's.
        recovery: the recovery key; signs in the present key's place.
        new_recovery: the recovery key from now on.

    Raises:
        ClientError: the service refused; the old key stays.
        InvalidKeyError: a key file must not be used.
    """
    if new_recovery is not None and recovery is None:
        raise ClientError("a new recovery key is named by the present recovery key alone")
    participant, path = client.home.participant(), client.home.folder / PARTY_KEY
    client.log.sync()
    present = client.log.history.participant_key(participant)
    new = waiting_key(path, present.name)
    if present != new.verify_key:
        statement = Rotation(
            issuer=participant,
            subject=participant,
            new_key=new.verify_key.text,
            by="key" if recovery is None else "recovery",
            recovery_key=None if new_recovery is None else new_recovery.text,
            issued=client.clock(),
        )
        signer = recovery or client.home.signing_key()
        client.submit("/rotations", statement.sign(signer, new))
    take_over(path)
    return new


def change_node_key(client: Client, node: Path, asset: str, *, lost: bool = False) -> SigningKey:
    """Give a node a new key and return it, once a checkpoint covers the change.

    Args:
        client: its provider's.
        node: the node's folder; a node that runs must be started again afterwards.
        asset: the asset that it guards.
        lost: the provider signs in place of the node's present key.

    Raises:
        ClientError: the service refused; the old key stays.
        InvalidKeyError: a key file must not be used.
    """
    path = node / NODE_KEY
    client.log.sync()
    present = client.log.history.node_key(asset)
    new = waiting_key(path, present.name)
    if present != new.verify_key:
        statement = Rotation(
            issuer=client.home.participant(),
            subject=asset,
            new_key=new.verify_key.text,
            by="recovery" if lost else "key",
            recovery_key=None,
            issued=client.clock(),
        )
        signer = client.home.signing_key() if lost else SigningKey.load(path)
        client.submit("/rotations", statement.sign(signer, new))
    take_over(path)
    return new
