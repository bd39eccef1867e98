"""The two halves of a CKKS key, as two types of which only one can hold the secret.

What it decides: what leaves the owner. `PublicContext` has no field for a secret key, so no flag
or forgotten argument can put one in (TenSEAL's `serialize(save_secret_key=True)` can). What it does
not do: parse a key; SEAL does, in a child process, after the digest was checked.

    secret = SecretContext.generate(LINEAR)
    data = secret.public.to_bytes()                       # 140 KiB for LINEAR
    public = PublicContext.from_bytes(data, sha256=named_by_a_signed_statement)

There are no Galois keys (33 MB): nothing here rotates. Relinearisation keys are made for `SIGMOID`
alone, the one set that multiplies ciphertexts more than once.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self

from privacy.ckks.container import digest, pack, unpack
from privacy.ckks.parameters import SIGMOID, Parameters, check_named
from privacy.ckks.worker import start_engine
from privacy.errors import KeyFileError, ParametersError, SealedBytesError
from privacy.secret_file import read_secret, write_secret

PUBLIC_NAMESPACE = "rongshu/ckks-public/v1"
SECRET_NAMESPACE = "rongshu/ckks-secret/v1"  # noqa: S105 - the format's name, not a secret

_LONGEST = 1 << 24
_DIGEST = 64


@dataclass(frozen=True)
class PublicContext:
    """What a scorer needs: parameters, the public key, and relinearisation keys where used.

    Attributes:
        parameters: One of the named sets.
        public_key: As SEAL wrote it; unverified until a child has loaded it.
        relinearisation: The same; None for all sets but `SIGMOID`.

    Raises:
        ParametersError: If the set is not a named one.
        SealedBytesError: If relinearisation keys are missing, or there without need.
    """

    parameters: Parameters
    public_key: bytes = field(repr=False)
    relinearisation: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_named(self.parameters)
        if (self.relinearisation is not None) != needs_relinearisation(self.parameters):
            raise SealedBytesError("relinearisation keys go with SIGMOID and nothing else")

    @cached_property
    def sha256(self) -> str:
        """Digest of `to_bytes()`: the key's name in columns and scores, and in statements."""
        return digest(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The container of `PUBLIC_NAMESPACE`."""
        fields = {"parameters": self.parameters.to_json()}
        return pack(PUBLIC_NAMESPACE, fields, self.bodies)

    @property
    def bodies(self) -> list[bytes]:
        """The public key, then the relinearisation keys if there are some."""
        more = [] if self.relinearisation is None else [self.relinearisation]
        return [self.public_key, *more]

    @classmethod
    def from_bytes(cls, data: bytes, *, sha256: str) -> "PublicContext":
        """Reads what `to_bytes` wrote, if it is the very one that was named.

        Args:
            data: Unverified bytes.
            sha256: The digest from a signed statement.

        Raises:
            SealedBytesError: If length, digest or form is wrong.
            ParametersError: If the parameters are refused.
        """
        fields, bodies = unpack(PUBLIC_NAMESPACE, data, sha256=sha256, longest=_LONGEST)
        parameters = _parameters(fields)
        if len(bodies) != 1 + needs_relinearisation(parameters):
            raise SealedBytesError("a public context holds the keys of its set and no other")
        return cls(parameters, *bodies)


@dataclass(frozen=True, eq=False)
class SecretContext:
    """The owner's key. It stays with the owner's client; its repr hides it.

    Attributes:
        public: The matching public half.
    """

    public: PublicContext
    _key: bytes = field(repr=False)

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: `save` is the one way out.

        Raises:
            ParametersError: Always.
        """
        raise ParametersError("a CKKS secret key cannot be copied or pickled; save it to a file")

    @classmethod
    def generate(cls, parameters: Parameters) -> Self:
        """Returns a fresh key, made in a child process; SEAL draws from the operating system.

        Raises:
            ParametersError: If the set is not a named one.
            ChildError: If the child fails.
        """
        check_named(parameters)
        with start_engine(parameters) as engine:
            made = engine.ask(
                "generate", {"relinearisation": needs_relinearisation(parameters)}, []
            )
        key, *public = made
        return cls(PublicContext(parameters, *public), key)

    @property
    def raw_secret(self) -> bytes:
        """The key as SEAL wrote it, for the owner's own child and nobody else."""
        return self._key

    def save(self, path: Path) -> None:
        """Writes the key to a new file that only its owner can read (mode 0600).

        Raises:
            KeyFileError: If the path exists (it is never overwritten) or cannot be written.
        """
        fields = {"parameters": self.public.parameters.to_json()}
        content = pack(SECRET_NAMESPACE, fields, [self._key, *self.public.bodies])
        write_secret(path, digest(content).encode() + b"\n" + content)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote; the digest before it finds damage.

        Raises:
            KeyFileError: If the file is missing, open to others, damaged or of another kind.
            ParametersError: If its parameters are refused.
        """
        content = read_secret(path, longest=_LONGEST)
        named, newline, content = content[:_DIGEST], content[_DIGEST:][:1], content[_DIGEST + 1 :]
        try:
            fields, bodies = unpack(SECRET_NAMESPACE, content, sha256=named.decode("latin-1"))
            parameters = _parameters(fields)
        except SealedBytesError:
            raise KeyFileError(f"{path} is not an undamaged key of {SECRET_NAMESPACE}") from None
        if newline != b"\n" or len(bodies) != 2 + needs_relinearisation(parameters):
            raise KeyFileError(f"{path} is not an undamaged key of {SECRET_NAMESPACE}")
        key, *public = bodies
        return cls(PublicContext(parameters, *public), key)


def needs_relinearisation(parameters: Parameters) -> bool:
    """Whether computations in this set multiply ciphertexts that were multiplied before."""
    return parameters == SIGMOID


def _parameters(fields: dict[str, Any]) -> Parameters:
    if set(fields) != {"parameters"}:
        raise SealedBytesError("a key has parameters and nothing else beside it")
    return Parameters.from_json(fields["parameters"])
