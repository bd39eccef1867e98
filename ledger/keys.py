"""Keys with names: the only place where signatures are made and checked.

Decides which keys may exist at all and how they are written; how a secret key rests on disk is in
`ledger.key_files`. Does not decide whom to trust.

    >>> key = SigningKey.generate("clinic.example")
    >>> key.verify_key.verify(b"message", key.sign(b"message"))
    >>> key.verify_key.text
    'clinic.example+a31c6f0e+AX…'

A verifier key is written as C2SP signed-note says: name, four bytes of key id in hex, and base64 of
the algorithm byte and the public key. A signing key is written in the form of Go's
`golang.org/x/mod/sumdb/note`. Keys that OpenSSL would load although they verify a signature for
*every* message, or that have a second spelling, are refused here.

Two types that nobody can take for one another: `VerifyKey` and `SigningKey` are Ed25519 (0x01) and
sign texts and statements; `CosignatureKey` and `CosigningKey` are those of witnesses, Ed25519
(0x04) or ML-DSA-44 (0x06), and sign what `ledger.cosignature` writes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError, InvalidKeyError, SignatureError, UnsupportedKeyError
from ledger.key_files import read_secret, write_secret

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:  # an older library checks everything that Ed25519 keys signed
    mldsa = None  # type: ignore[assignment]

ALGORITHM = b"\x01"
"""Signature type of Ed25519 in C2SP signed-note."""

COSIGNATURE_ED25519 = b"\x04"
"""Signature type of an Ed25519 cosignature in C2SP tlog-cosignature."""

COSIGNATURE_MLDSA = b"\x06"
"""Signature type of an ML-DSA-44 cosignature in C2SP tlog-cosignature."""

MAX_NAME_BYTES = 256
_SEED_BYTES = 32
_PUBLIC_BYTES = {ALGORITHM: 32, COSIGNATURE_ED25519: 32, COSIGNATURE_MLDSA: 1312}
_NAMES = {ALGORITHM: "Ed25519", COSIGNATURE_ED25519: "Ed25519", COSIGNATURE_MLDSA: "ML-DSA-44"}
_PRIVATE = "PRIVATE+KEY+"
_KEY_ID = re.compile(r"[0-9a-f]{8}")

# edwards25519: -x² + y² = 1 + d·x²·y² over the integers modulo _P (RFC 8032, section 5.1).
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
# The y coordinates of the eight points of small order: 1, 2, 4 (y = 1, -1, 0) and 8.
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})


@dataclass(frozen=True)
class VerifyKey:
    """A named public key that is safe to verify with.

    Attributes:
        name: whom the key speaks for; no whitespace, no plus sign.
        public: 32 bytes (RFC 8032, section 5.1.2).

    Raises:
        InvalidKeyError: for a bad name, and for a public key of the wrong length, not canonical,
            not on the curve or of small order.
    """

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_point(self.public)

    @staticmethod
    def from_text(text: str) -> VerifyKey:
        """Read a key written as `name+hex8+base64`.

        Raises:
            InvalidKeyError: for any other form, and when the key id does not belong to the key.
        """
        return _read_verify_key(text)

    @cached_property
    def key_id(self) -> bytes:
        """Four bytes that say which key to try; not unique, so never an identity."""
        return _key_id(self.name, ALGORITHM, self.public)

    @cached_property
    def text(self) -> str:
        """The key as `name+hex8+base64`, the form in which keys are handed on."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ALGORITHM + self.public)}"

    @cached_property
    def fingerprint(self) -> str:
        """`SHA256:` and unpadded base64 of the hash of `text`, to be compared by people.

        The name is covered too, so equal fingerprints mean equal name and key.
        """
        return _fingerprint(self.text)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return only if this key signed the message.

        Raises:
            SignatureError: otherwise.
        """
        _verify(self.name, Ed25519PublicKey.from_public_bytes(self.public), message, signature)


# The same few keys are read for every statement of a log.
@lru_cache(1024)
def _read_verify_key(text: str) -> VerifyKey:
    name, key_id, _, public = _split(text, "verifier key", (ALGORITHM,))
    key = VerifyKey(name, public)
    if key.key_id.hex() != key_id:
        raise InvalidKeyError(f"verifier key of {name!r}: its key id belongs to another key")
    return key


class _SecretKey(ABC):
    """A secret key that rests in a file of its own."""

    @classmethod
    @abstractmethod
    def from_text(cls, text: str) -> Self:
        """Read a key written by `to_text`."""

    @abstractmethod
    def to_text(self) -> str:
        """Write the secret key as text."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file that nobody but its owner can read.

        Raises:
            InvalidKeyError: when the file is missing, not a regular file, open to group or others,
                or holds anything but one key. The message names the file and the remedy.
            UnsupportedKeyError: the library here does not know this kind of key.
        """
        text = read_secret(Path(path))
        try:
            return cls.from_text(text.removesuffix("\n"))
        except InvalidKeyError as error:
            raise type(error)(f"key file {path}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the secret key to a new file with mode 0600 and wait until it is durable.

        Raises:
            InvalidKeyError: when the file exists already (keys are never overwritten) or cannot be
                written; the message names the file.
        """
        write_secret(Path(path), self.to_text() + "\n")


@dataclass(frozen=True, eq=False)
class SigningKey(_SecretKey):
    """A named secret key. It shows its name, never itself.

    Build one with `generate`, `from_text` or `load`.
    """

    name: str
    _private: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a new key from the system's randomness.

        Raises:
            InvalidKeyError: for a bad name.
        """
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Make the key of a 32-byte secret seed (RFC 8032, section 5.1.5).

        Raises:
            InvalidKeyError: for a bad name or a seed of another length.
        """
        if len(seed) != 32:
            raise InvalidKeyError(f"signing key of {name!r}: the seed must be 32 bytes")
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a key written by `to_text`.

        Raises:
            InvalidKeyError: for any other form, and when the key id does not belong to the key.
        """
        name, key_id, _, seed = _split_private(text, "signing key", (ALGORITHM,))
        key = cls.from_seed(name, seed)
        if key.verify_key.key_id.hex() != key_id:
            raise InvalidKeyError(f"signing key of {name!r}: its key id belongs to another key")
        return key

    @cached_property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.name, self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; deterministic (RFC 8032, section 5.1.6)."""
        return self._private.sign(message)

    def to_text(self) -> str:
        """Write the secret key as `PRIVATE+KEY+name+hex8+base64`; keep it out of logs."""
        secret = b64encode(ALGORITHM + self._private.private_bytes_raw())
        return f"{_PRIVATE}{self.name}+{self.verify_key.key_id.hex()}+{secret}"


@dataclass(frozen=True)
class CosignatureKey:
    """A cosigner's named public key that is safe to verify with.

    Attributes:
        name: whom the key speaks for; no whitespace, no plus sign.
        algorithm: `COSIGNATURE_ED25519` or `COSIGNATURE_MLDSA`.
        public: 32 bytes (RFC 8032) or 1312 bytes (FIPS 204, algorithm 22).

    Raises:
        InvalidKeyError: for a bad name, another algorithm, and for a public key of the wrong
            length, not canonical or weak.
    """

    name: str
    algorithm: bytes
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm == COSIGNATURE_ED25519:
            _check_point(self.public)
        elif self.algorithm == COSIGNATURE_MLDSA:
            _check_lattice(self.public)
        else:
            raise InvalidKeyError(f"cosigner {self.name!r}: an algorithm other than 0x04 and 0x06")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a key written as `name+hex8+base64`.

        Raises:
            InvalidKeyError: for any other form, and when the key id does not belong to the key.
        """
        kinds = (COSIGNATURE_ED25519, COSIGNATURE_MLDSA)
        name, key_id, algorithm, public = _split(text, "cosigner's key", kinds)
        key = cls(name, algorithm, public)
        if key.key_id.hex() != key_id:
            raise InvalidKeyError(f"cosigner's key of {name!r}: its key id belongs to another key")
        return key

    @cached_property
    def key_id(self) -> bytes:
        """Four bytes that say which key to try; not unique, so never an identity."""
        return _key_id(self.name, self.algorithm, self.public)

    @cached_property
    def text(self) -> str:
        """The key as `name+hex8+base64`, the form in which keys are handed on."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(self.algorithm + self.public)}"

    @cached_property
    def fingerprint(self) -> str:
        """`SHA256:` and unpadded base64 of the hash of `text`, to be compared by people."""
        return _fingerprint(self.text)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return only if this key signed the message.

        Raises:
            SignatureError: otherwise.
            UnsupportedKeyError: the library here knows no ML-DSA-44.
        """
        loader = Ed25519PublicKey
        if self.algorithm == COSIGNATURE_MLDSA:
            loader = _mldsa("PublicKey", self.name)
        try:
            public = loader.from_public_bytes(self.public)
        except UnsupportedAlgorithm:
            raise _unsupported(self.name) from None
        _verify(self.name, public, message, signature)


@dataclass(frozen=True, eq=False)
class CosigningKey(_SecretKey):
    """A cosigner's named secret key. It shows its name, never itself.

    Build one with `generate`, `from_seed`, `from_text` or `load`.
    """

    name: str
    algorithm: bytes
    _private: Any = field(repr=False)

    @classmethod
    def generate(cls, name: str, algorithm: bytes = COSIGNATURE_ED25519) -> Self:
        """Make a new key from the system's randomness.

        Raises:
            InvalidKeyError: for a bad name or another algorithm.
            UnsupportedKeyError: the library here knows no ML-DSA-44.
        """
        return cls.from_seed(name, os.urandom(_SEED_BYTES), algorithm)

    @classmethod
    def from_seed(cls, name: str, seed: bytes, algorithm: bytes = COSIGNATURE_ED25519) -> Self:
        """Make the key of a 32-byte secret seed (RFC 8032, section 5.1.5; FIPS 204, algorithm 6).

        Raises:
            InvalidKeyError: for a bad name, another algorithm or a seed of another length.
            UnsupportedKeyError: the library here knows no ML-DSA-44.
        """
        _check_name(name)
        if len(seed) != _SEED_BYTES:
            raise InvalidKeyError(f"cosigning key of {name!r}: the seed must be 32 bytes")
        if algorithm == COSIGNATURE_ED25519:
            return cls(name, algorithm, Ed25519PrivateKey.from_private_bytes(seed))
        if algorithm != COSIGNATURE_MLDSA:
            raise InvalidKeyError(f"cosigner {name!r}: an algorithm other than 0x04 and 0x06")
        try:
            return cls(name, algorithm, _mldsa("PrivateKey", name).from_seed_bytes(seed))
        except UnsupportedAlgorithm:
            raise _unsupported(name) from None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a key written by `to_text`.

        Raises:
            InvalidKeyError: for any other form, and when the key id does not belong to the key.
            UnsupportedKeyError: the library here knows no ML-DSA-44.
        """
        kinds = (COSIGNATURE_ED25519, COSIGNATURE_MLDSA)
        name, key_id, algorithm, seed = _split_private(text, "cosigning key", kinds)
        key = cls.from_seed(name, seed, algorithm)
        if key.verify_key.key_id.hex() != key_id:
            raise InvalidKeyError(f"cosigning key of {name!r}: its key id belongs to another key")
        return key

    @cached_property
    def verify_key(self) -> CosignatureKey:
        """The public half."""
        public = self._private.public_key().public_bytes_raw()
        return CosignatureKey(self.name, self.algorithm, public)

    def sign(self, message: bytes) -> bytes:
        """Return the signature: 64 bytes, deterministic, of Ed25519; 2420, not so, of ML-DSA-44."""
        signature: bytes = self._private.sign(message)
        return signature

    def to_text(self) -> str:
        """Write the secret key as `PRIVATE+KEY+name+hex8+base64`; keep it out of logs."""
        secret = b64encode(self.algorithm + self._private.private_bytes_raw())
        return f"{_PRIVATE}{self.name}+{self.verify_key.key_id.hex()}+{secret}"


def _key_id(name: str, algorithm: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode("utf-8") + b"\n" + algorithm + public).digest()[:4]


def _fingerprint(text: str) -> str:
    hashed = hashlib.sha256(text.encode("utf-8")).digest()
    return "SHA256:" + base64.b64encode(hashed).decode("ascii").rstrip("=")


def _verify(name: str, public: Any, message: bytes, signature: bytes) -> None:
    try:
        public.verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"signature does not verify under the key of {name!r}") from None


def _mldsa(half: str, name: str) -> Any:
    module: ModuleType | None = mldsa
    found = getattr(module, f"MLDSA44{half}", None)
    if found is None:
        raise _unsupported(name)
    return found


def _unsupported(name: str) -> UnsupportedKeyError:
    return UnsupportedKeyError(
        f"the key of {name!r} is an ML-DSA-44 key, which the `cryptography` library here does not "
        "know: install cryptography 50 or newer"
    )


def _split_private(
    text: str, what: str, algorithms: Collection[bytes]
) -> tuple[str, str, bytes, bytes]:
    if not text.startswith(_PRIVATE):
        raise InvalidKeyError(f"a {what} must start with {_PRIVATE!r}")
    return _split(text.removeprefix(_PRIVATE), what, algorithms, secret=True)


def _split(
    text: str, what: str, algorithms: Collection[bytes], *, secret: bool = False
) -> tuple[str, str, bytes, bytes]:
    """Split `name+hex8+base64` and return name, key id, algorithm and the bytes after it."""
    # The base64 part may hold further plus signs; a name may not.
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_ID.fullmatch(parts[1]):
        raise InvalidKeyError(f"a {what} must read name+8 hex digits+base64")
    name, key_id, encoded = parts
    _check_name(name)
    try:
        raw = b64decode(encoded)
    except EncodingError as error:
        raise InvalidKeyError(f"{what} of {name!r}: {error}") from None
    algorithm, rest = raw[:1], raw[1:]
    lengths = {kind: _SEED_BYTES if secret else _PUBLIC_BYTES[kind] for kind in algorithms}
    if lengths.get(algorithm) != len(rest):
        forms = " or ".join(
            f"an {_NAMES[kind]} key (0x{kind.hex()} and {length} bytes)"
            for kind, length in lengths.items()
        )
        raise InvalidKeyError(f"{what} of {name!r} is not {forms}")
    return name, key_id, algorithm, rest


def _check_name(name: str) -> None:
    shown = repr(name[:80])
    if not name:
        raise InvalidKeyError("a key name must not be empty")
    # A control character would make every note signed under the name unreadable.
    if "+" in name or any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise InvalidKeyError(f"key name {shown} must not hold whitespace, control characters or +")
    if len(name.encode("utf-8")) > MAX_NAME_BYTES:
        raise InvalidKeyError(f"key name {shown} is longer than {MAX_NAME_BYTES} bytes")


# A verifier meets the same few keys in every statement; a refusal is raised anew each time.
@lru_cache(maxsize=1024)
def _check_point(public: bytes) -> None:
    if len(public) != 32:
        raise InvalidKeyError(f"an Ed25519 public key has 32 bytes, not {len(public)}")
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P:
        raise InvalidKeyError("public key is not canonical: its y coordinate is not reduced")
    if y in _SMALL_ORDER:
        raise InvalidKeyError("public key has small order: it verifies signatures nobody made")
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P)
    # Euler's criterion; x² = 0 happens only for y = ±1, refused above.
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise InvalidKeyError("public key is not a point of the curve")


@lru_cache(maxsize=1024)
def _check_lattice(public: bytes) -> None:
    """Refuse an ML-DSA-44 public key under which anybody can sign (FIPS 204, algorithm 3).

    The 10-bit coefficients of t1 stand for t1·2^13: 0 is 0, and 1023 is -1 modulo q. A key made of
    little else leaves a verifier's equation without the secret, so signatures need none. An honest
    key has two such coefficients among its 1024; every packing of coefficients is canonical.
    """
    if len(public) != _PUBLIC_BYTES[COSIGNATURE_MLDSA]:
        raise InvalidKeyError(f"an ML-DSA-44 public key has 1312 bytes, not {len(public)}")
    packed = int.from_bytes(public[32:], "little")
    coefficients = [packed >> (10 * at) & 1023 for at in range(1024)]
    if sum(each in (0, 1023) for each in coefficients) > 512:
        raise InvalidKeyError("public key is degenerate: it verifies signatures nobody made")
