"""Ed25519 keys with names: the only place where signatures are made and checked.

Decides which keys may exist at all, how they are written, and how a secret key rests on disk. Does
not decide whom to trust.

    >>> key = SigningKey.generate("clinic.example")
    >>> key.verify_key.verify(b"message", key.sign(b"message"))
    >>> key.verify_key.text
    'clinic.example+a31c6f0e+AX…'

A verifier key is written as C2SP signed-note says: name, four bytes of key id in hex, and base64 of
the algorithm byte 0x01 and the public key. A signing key is written in the form of Go's
`golang.org/x/mod/sumdb/note`. Keys that OpenSSL would load although they verify a signature for
*every* message, or that have a second spelling, are refused here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from ledger.encoding import b64decode, b64encode
from ledger.errors import EncodingError, InvalidKeyError, SignatureError

ALGORITHM = b"\x01"
"""Signature type of Ed25519 in C2SP signed-note."""

MAX_NAME_BYTES = 256
_MAX_FILE_BYTES = 4096
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
        named = self.name.encode("utf-8") + b"\n" + ALGORITHM + self.public
        return hashlib.sha256(named).digest()[:4]

    @cached_property
    def text(self) -> str:
        """The key as `name+hex8+base64`, the form in which keys are handed on."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ALGORITHM + self.public)}"

    @cached_property
    def fingerprint(self) -> str:
        """`SHA256:` and unpadded base64 of the hash of `text`, to be compared by people.

        The name is covered too, so equal fingerprints mean equal name and key.
        """
        hashed = hashlib.sha256(self.text.encode("utf-8")).digest()
        return "SHA256:" + base64.b64encode(hashed).decode("ascii").rstrip("=")

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return only if this key signed the message.

        Raises:
            SignatureError: otherwise.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            reason = f"signature does not verify under the key of {self.name!r}"
            raise SignatureError(reason) from None


# The same few keys are read for every statement of a log.
@lru_cache(1024)
def _read_verify_key(text: str) -> VerifyKey:
    name, key_id, public = _split(text, "verifier key")
    key = VerifyKey(name, public)
    if key.key_id.hex() != key_id:
        raise InvalidKeyError(f"verifier key of {name!r}: its key id belongs to another key")
    return key


@dataclass(frozen=True, eq=False)
class SigningKey:
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
        if not text.startswith(_PRIVATE):
            raise InvalidKeyError(f"a signing key must start with {_PRIVATE!r}")
        name, key_id, seed = _split(text.removeprefix(_PRIVATE), "signing key")
        key = cls.from_seed(name, seed)
        if key.verify_key.key_id.hex() != key_id:
            raise InvalidKeyError(f"signing key of {name!r}: its key id belongs to another key")
        return key

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file that nobody but its owner can read.

        Raises:
            InvalidKeyError: when the file is missing, not a regular file, open to group or others,
                or holds anything but one key. The message names the file and the remedy.
        """
        text = _read_private(Path(path))
        try:
            return cls.from_text(text.removesuffix("\n"))
        except InvalidKeyError as error:
            raise InvalidKeyError(f"key file {path}: {error}") from None

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the secret key to a new file with mode 0600 and wait until it is durable.

        Raises:
            InvalidKeyError: when the file exists already (keys are never overwritten) or cannot be
                written; the message names the file.
        """
        _write_private(Path(path), self.to_text() + "\n")


def _split(text: str, what: str) -> tuple[str, str, bytes]:
    """Split `name+hex8+base64` and return name, key id and the 32 bytes after the algorithm."""
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
    if raw[:1] != ALGORITHM or len(raw) != 33:
        raise InvalidKeyError(f"{what} of {name!r} is not an Ed25519 key (0x01 and 32 bytes)")
    return name, key_id, raw[1:]


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


def _read_private(path: Path) -> str:
    try:
        # Not blocking: opening a named pipe in the key's place must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be opened: {error.strerror}") from None
    try:
        # The open file is asked, not the path, which could be exchanged in between.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise InvalidKeyError(f"key file {path} is not a regular file")
        if mode & 0o077:
            raise InvalidKeyError(
                f"key file {path} has mode {stat.S_IMODE(mode):04o}, so others can reach it: "
                f"run `chmod 600 {path}`, and make a new key if anybody may have read this one"
            )
        data = os.read(descriptor, _MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidKeyError(f"key file {path} is too long to hold one key")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidKeyError(f"key file {path} is not text") from None


def _write_private(path: Path, text: str) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise InvalidKeyError(
            f"key file {path} exists already and is never overwritten: choose another path"
        ) from None
    except OSError as error:
        raise InvalidKeyError(f"key file {path} cannot be created: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        _sync_directory(path.parent)
    except OSError as error:
        # A half-written key would block the next attempt; nobody has used it yet.
        with contextlib.suppress(OSError):
            path.unlink()
        raise InvalidKeyError(f"key file {path} cannot be written: {error.strerror}") from None


def _sync_directory(folder: Path) -> None:
    # Without this a crash can lose the name of a file whose contents are durable.
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
