"""Our own vectors of dropout recovery: the product agrees, and so does its description.

The second half computes them again without the product: HKDF from HMAC (RFC 5869), the polynomial,
the hashes. X25519, ChaCha20 and Poly1305 are the library's in both.
"""

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from privacy.errors import SealedShareError
from privacy.masking import MaskKey, add, mask, mask_context, self_mask
from privacy.recovery import correction, seed_commitment, unmask
from privacy.sealed_shares import ShareKey, SharePair, open_
from privacy.shamir import combine

FOLDER = Path(__file__).parents[1] / "vectors" / "privacy"
ROUND = json.loads((FOLDER / "recovery-v1" / "round.json").read_text())
PARTIES = ROUND["parties"]
CONTEXT = bytes.fromhex(ROUND["context"]["digest"])


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def words(text: str) -> np.ndarray:
    return np.frombuffer(raw(text), "<u8").astype(np.uint64)


def column(name: str) -> dict[str, bytes]:
    return {party: raw(fields[name]) for party, fields in PARTIES.items()}


def share_key(name: str) -> ShareKey:
    secret = X25519PrivateKey.from_private_bytes(raw(ROUND["box"][name]))
    return ShareKey(secret.public_key().public_bytes_raw(), secret)


def test_every_folder_has_its_provenance():
    listed = (FOLDER / "PROVENANCE.md").read_text()
    files = [path.relative_to(FOLDER) for path in FOLDER.glob("*/*")]
    assert "recovery-v1" in {path.parent.name for path in files}
    for path in files:
        assert f"`{path}`" in listed


def test_the_shares_give_the_secret():
    case = ROUND["shamir"]
    shares = {holder: raw(share) for holder, share in case["shares"].items()}
    arguments = {"holders": list(shares), "threshold": case["threshold"]}
    assert combine(shares, **arguments) == raw(case["secret"])
    some = dict(list(shares.items())[2:])
    assert combine(some, **arguments) == raw(case["secret"])


def test_the_box_opens_and_only_for_its_receiver():
    case = ROUND["box"]
    arguments = {"sender": case["sender"], "receiver": case["receiver"], "context": CONTEXT}
    arguments["peer_public"] = share_key("sender_secret").public
    pair = open_(raw(case["box"]), own=share_key("receiver_secret"), **arguments)
    assert pair == SharePair(raw(case["share_of_mask_key"]), raw(case["share_of_seed"]))
    with pytest.raises(SealedShareError):
        open_(raw(case["box"]), own=ShareKey.generate(), **arguments)


def test_the_contributions_and_the_recovered_sum():
    case = ROUND["context"]
    assert mask_context(case["job"], case["attempt"], case["round"], case["cohort"]) == CONTEXT
    publics, seeds, commitments = column("mask_public"), column("seed"), column("commitment")
    keys = {party: MaskKey.from_secret(secret) for party, secret in column("mask_secret").items()}
    sent = {}
    for party, fields in PARTIES.items():
        assert keys[party].public == publics[party]
        assert seed_commitment(seeds[party], owner=party, context=CONTEXT) == commitments[party]
        own = self_mask(3, seed=seeds[party], owner=party, context=CONTEXT)
        assert (own == words(fields["self_mask"])).all()
        sent[party] = mask(
            words(fields["vector"]),
            own_id=party,
            own=keys[party],
            peers={other: key for other, key in publics.items() if other != party},
            context=CONTEXT,
            seed=seeds[party],
        )
        assert (sent[party] == words(fields["contribution"])).all()
    dropped = ROUND["recovered"]["dropped"]
    survivors = [party for party in PARTIES if party not in dropped]
    arguments = {
        "survivors": {party: seeds[party] for party in survivors},
        "dropped": {party: keys[party] for party in dropped},
        "publics": publics,
        "commitments": commitments,
        "context": CONTEXT,
    }
    assert (correction(3, **arguments) == words(ROUND["recovered"]["correction"])).all()
    total = add([sent[party] for party in survivors])
    assert (unmask(total, **arguments) == words(ROUND["recovered"]["sum"])).all()
    plain = add([words(PARTIES[party]["vector"]) for party in survivors])
    assert (words(ROUND["recovered"]["sum"]) == plain).all()


# --- the same from the description --------------------------------------------------------------


def joined(*fields: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in fields)


def hkdf(secret: bytes, info: bytes) -> bytes:
    # RFC 5869 with an empty salt, one block long.
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def stream(key: bytes) -> np.ndarray:
    cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return np.frombuffer(cipher.update(bytes(24)), "<u8").astype(np.uint64)


def agree(secret: bytes, public: bytes) -> bytes:
    private = X25519PrivateKey.from_private_bytes(secret)
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def test_the_shares_follow_from_the_description():
    case = ROUND["shamir"]
    constant, linear, square = (int.from_bytes(raw(one), "big") for one in case["coefficients"])
    assert case["secret"] == case["coefficients"][0]
    for place, holder in enumerate(sorted(case["shares"]), 1):
        value = (constant + linear * place + square * place**2) % (2**521 - 1)
        assert raw(case["shares"][holder]) == place.to_bytes(2, "big") + value.to_bytes(66, "big")


def test_the_box_follows_from_the_description():
    case = ROUND["box"]
    sender, receiver = share_key("sender_secret").public, share_key("receiver_secret").public
    info = joined(
        b"rongshu/sealed-shares/v1",
        CONTEXT,
        case["sender"].encode(),
        case["receiver"].encode(),
        sender,
        receiver,
    )
    key = hkdf(agree(raw(case["sender_secret"]), receiver), info)
    plain = raw(case["share_of_mask_key"]) + raw(case["share_of_seed"])
    nonce = raw(case["nonce"])
    assert nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, None) == raw(case["box"])


def test_masks_and_commitments_follow_from_the_description():
    secrets, publics = column("mask_secret"), column("mask_public")
    for party, fields in PARTIES.items():
        name, seed = party.encode(), raw(fields["seed"])
        promise = joined(b"rongshu/seed-commitment/v1", CONTEXT, name, seed)
        assert hashlib.sha256(promise).digest() == raw(fields["commitment"])
        own = stream(hkdf(seed, joined(b"rongshu/self-mask/v1", CONTEXT, name)))
        assert (own == words(fields["self_mask"])).all()
        masked = words(fields["vector"]) + own
        for other, public in publics.items():
            if other == party:
                continue
            first, second = sorted([party, other])
            info = joined(
                b"rongshu/mask/v1",
                CONTEXT,
                first.encode(),
                second.encode(),
                publics[first],
                publics[second],
            )
            pair = stream(hkdf(agree(secrets[party], public), info))
            masked = masked + pair if party < other else masked - pair
        assert (masked == words(fields["contribution"])).all()
