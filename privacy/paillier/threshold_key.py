"""A Paillier key whose secret nobody holds: a dealer shares it, and any `threshold` holders open.

Damgård and Jurik, "A Generalisation, a Simplification and Some Applications of Paillier's
Probabilistic Public-Key System" (PKC 2001, section 4.1), with s = 1, after Shoup, "Practical
Threshold Signatures" (EUROCRYPT 2000). The public half is an ordinary `PublicKey` of the form
`blum`: whoever encrypts and adds does what it does under any key.

    shares = deal(["a", "b", "c"], threshold=2)          # by a dealer, who forgets what he drew
    shares[0].save(folder / "a.share")                   # handed to its holder alone
    key = ThresholdKey.from_json(shares[0].key.to_json())

With p = 2p' + 1 and q = 2q' + 1 safe primes, n = pq and m = p'q', the secret is d with d = 0
modulo m and d = 1 modulo n: the squares modulo n² have order n * m, and c^(2d) = (1 + n)^(2M) for
a ciphertext c of M. f is a polynomial of degree threshold - 1 modulo n * m, evenly drawn but for
f(0) = d, and holder number i, counted from 1, gets s_i = f(i). For a random square v the key shows
v_i = v^(delta * s_i), delta the factorial of the number of holders: by it a holder proves what it
does (`threshold`).

What it decides: whether a key is well formed. What shows from outside is checked: the v_i lie on
one polynomial of degree threshold - 1 "in the exponent", and the value at 0 is one that opens,
f(0) = 0 modulo m, as far as v can show. What it cannot decide: whether the dealer kept the
factors, or gave a share to somebody else, or drew n of two safe primes.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import gmpy2
from gmpy2 import mpz

from privacy.errors import CiphertextError, KeyFileError, WeakKeyError
from privacy.paillier.cipher import check_ciphertexts
from privacy.paillier.keys import DEFAULT_BITS, MAX_BITS, MIN_BITS, PublicKey, SecretKey
from privacy.paillier.safe_primes import Tries, draw_safe_prime, is_safe_prime
from privacy.secret_file import read_secret, write_secret
from privacy.secure_random import random_below, random_unit

SHARE_NAMESPACE: Final = "rongshu/paillier-share/v1"

MAX_HOLDERS: Final = 16
"""More would only make exponents longer: delta is the factorial of it."""

_MAX_NAME = 128
_LONGEST_FILE = 1 << 18
_FIELDS = {"n", "primes", "base", "threshold", "holders"}


@dataclass(frozen=True)
class ThresholdKey:
    """What everybody may know of a shared key.

    Attributes:
        public: What is encrypted to.
        base: v, a square modulo n².
        threshold: How many holders open, from 2 to their number.
        holders: Their names; number i, counted from 1, has the share f(i).
        verification: v_i, one for each holder.

    Raises:
        WeakKeyError: For anything else, or verification keys that are not those of one sharing.
    """

    public: PublicKey
    base: int
    threshold: int
    holders: tuple[str, ...]
    verification: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.public.blum:
            raise WeakKeyError("a threshold key has safe primes, so it claims the form blum")
        if not all(type(each) is str and 0 < len(each) <= _MAX_NAME for each in self.holders):
            raise WeakKeyError(f"a holder's name has 1 to {_MAX_NAME} characters")
        if len(set(self.holders)) != len(self.holders) or len(self.holders) > MAX_HOLDERS:
            raise WeakKeyError(f"a threshold key has at most {MAX_HOLDERS} holders, all different")
        if type(self.threshold) is not int or not 2 <= self.threshold <= len(self.holders):
            raise WeakKeyError("the threshold is 2 at least, and at most the number of holders")
        if len(self.verification) != len(self.holders):
            raise WeakKeyError("a threshold key has one verification key for each holder")
        try:
            check_ciphertexts(self.public, (self.base, *self.verification))
        except CiphertextError:
            raise WeakKeyError("base and verification keys are units modulo n²") from None
        self._check_polynomial()

    @property
    def delta(self) -> int:
        """The factorial of the number of holders: it makes Lagrange's coefficients whole."""
        return math.factorial(len(self.holders))

    def place(self, holder: str) -> int:
        """Returns the number of a holder, counted from 1.

        Raises:
            WeakKeyError: If it holds no share of this key.
        """
        if holder not in self.holders:
            raise WeakKeyError("this key has no such holder")
        return self.holders.index(holder) + 1

    def coefficients(self, places: Sequence[int], at: int = 0) -> list[int]:
        """Returns delta times Lagrange's coefficients, which are integers (Shoup 2000, section 3).

        Args:
            places: `threshold` different ones.
            at: Where the polynomial is evaluated.
        """
        found = []
        for place in places:
            others = [other for other in places if other != place]
            above = math.prod(at - other for other in others)
            found.append(self.delta * above // math.prod(place - other for other in others))
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON: the public half's fields, base, threshold and holders with keys."""
        holders = [
            {"holder": name, "key": f"{key:x}"}
            for name, key in zip(self.holders, self.verification, strict=True)
        ]
        mine = {"base": f"{self.base:x}", "threshold": self.threshold, "holders": holders}
        return {**self.public.to_json(), **mine}

    @classmethod
    def from_json(cls, value: Any) -> "ThresholdKey":
        """Reads what `to_json` wrote.

        Args:
            value: Unverified parsed JSON.

        Raises:
            WeakKeyError: If it is not of this form, or the key is refused.
        """
        if not isinstance(value, Mapping) or set(value) != _FIELDS:
            raise WeakKeyError(f"a threshold key in JSON has the fields {sorted(_FIELDS)}")
        public = PublicKey.from_json({"n": value["n"], "primes": value["primes"]})
        holders = value["holders"]
        if not isinstance(holders, list | tuple) or len(holders) > MAX_HOLDERS:
            raise WeakKeyError(f"the holders are a list of at most {MAX_HOLDERS}")
        if any(not isinstance(each, Mapping) or set(each) != {"holder", "key"} for each in holders):
            raise WeakKeyError("a holder in JSON has the fields holder and key")
        width = public.ciphertext_bytes
        return cls(
            public=public,
            base=read_number(value["base"], width),
            threshold=value["threshold"],
            holders=tuple(each["holder"] for each in holders),
            verification=tuple(read_number(each["key"], width) for each in holders),
        )

    def _check_polynomial(self) -> None:
        """Checks in the exponent what Damgård and Jurik leave to the dealer's honesty."""
        first = range(1, self.threshold + 1)
        n, square = mpz(self.public.n), mpz(self.public.n) ** 2
        if self._interpolated(first, 0) % n != 1:
            raise WeakKeyError("these verification keys are those of shares that open nothing")
        for place in range(self.threshold + 1, len(self.holders) + 1):
            shown = gmpy2.powmod(self.verification[place - 1], self.delta, square)
            if self._interpolated(first, place) != shown:
                raise WeakKeyError("these verification keys do not lie on one polynomial")

    def _interpolated(self, places: Sequence[int], at: int) -> mpz:
        square, total = mpz(self.public.n) ** 2, mpz(1)
        for place, weight in zip(places, self.coefficients(places, at), strict=True):
            total = total * gmpy2.powmod(self.verification[place - 1], weight, square) % square
        return total


@dataclass(frozen=True, eq=False)
class KeyShare:
    """One holder's share. It stays with the holder; its repr hides it.

    Attributes:
        key: The key that it is a share of.
        holder: Whose share it is.

    Raises:
        WeakKeyError: If it is not the share that the holder's verification key was made from.
    """

    key: ThresholdKey
    holder: str
    _share: int = field(repr=False)

    def __post_init__(self) -> None:
        place, square = self.key.place(self.holder), mpz(self.key.public.n) ** 2
        if type(self._share) is not int or not 0 < self._share < square:
            raise WeakKeyError("this is no share of a threshold key")
        shown = gmpy2.powmod_sec(self.key.base, self.key.delta * self._share, square)
        if shown != self.key.verification[place - 1]:
            raise WeakKeyError("this is not the share of this holder")

    def __reduce__(self) -> NoReturn:
        """Refuses pickling and copying: `save` is the one way out.

        Raises:
            WeakKeyError: Always.
        """
        raise WeakKeyError("a share of a key cannot be copied or pickled; save it to a file")

    def raw_share(self) -> int:
        """Returns the secret itself, for the mathematics of this package alone."""
        return self._share

    def save(self, path: Path) -> None:
        """Writes the share, with its key, to a new file that only its owner can read (mode 0600).

        Raises:
            KeyFileError: If the path exists (it is never overwritten) or cannot be written.
        """
        write_secret(path, self._to_bytes())

    @classmethod
    def load(cls, path: Path) -> "KeyShare":
        """Reads what `save` wrote.

        Raises:
            KeyFileError: If the file is missing, no regular file, open to group or others, or
                malformed. The message never quotes its content.
            WeakKeyError: If the key in it is refused, or the share is not its holder's.
        """
        content = read_secret(path, longest=_LONGEST_FILE)
        try:
            value = json.loads(content)
            key = ThresholdKey.from_json(value["key"])
            share = cls(key, value["holder"], read_number(value["share"], 2 * MAX_BITS // 8))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise KeyFileError(f"{path} is no share of {SHARE_NAMESPACE}") from None
        # Written once more it is the same, so nothing else stands in the file.
        if share._to_bytes() != content:
            raise KeyFileError(f"{path} is no share of {SHARE_NAMESPACE}")
        return share

    def _to_bytes(self) -> bytes:
        value = {
            "kind": SHARE_NAMESPACE,
            "holder": self.holder,
            "key": self.key.to_json(),
            "share": f"{self._share:x}",
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def deal(
    holders: Sequence[str],
    *,
    threshold: int = 2,
    bits: int = DEFAULT_BITS,
    tries: Tries | None = None,
) -> tuple[KeyShare, ...]:
    """Makes a key and shares it; nothing of it is kept but the shares that are returned.

    Args:
        holders: Their names, in the order of their numbers.
        threshold: How many of them open.
        bits: Length of the modulus, even.
        tries: Told while safe primes are sought.

    Returns:
        One share for each holder, in their order.

    Raises:
        WeakKeyError: If there cannot be such a key.
    """
    # Checked first: primes take long, and a small key would be refused only after it was made.
    if not MIN_BITS <= bits <= MAX_BITS or bits % 2:
        raise WeakKeyError(
            f"asked for a threshold key of {bits} bits; "
            f"an even number from {MIN_BITS} to {MAX_BITS} is needed"
        )
    if not 2 <= threshold <= len(holders) <= MAX_HOLDERS:
        raise WeakKeyError(
            f"a key is shared among 2 to {MAX_HOLDERS} holders, and 2 at least of them open"
        )
    p = draw_safe_prime(bits // 2, tries)
    q = p
    # Primes close to each other are found from the square root of n (Fermat).
    while abs(p - q).bit_length() <= bits // 2 - 100:
        q = draw_safe_prime(bits // 2, tries)
    return share_out(p, q, holders, threshold=threshold)


def share_out(
    p: int, q: int, holders: Sequence[str], *, threshold: int = 2
) -> tuple[KeyShare, ...]:
    """Shares the key of two safe primes, with a polynomial and a base drawn afresh.

    Args:
        p: A safe prime.
        q: Another one of the same length.
        holders: Their names, in the order of their numbers.
        threshold: How many of them open.

    Raises:
        WeakKeyError: If the primes are not safe or make no good key, or there are no such holders.
    """
    if not (is_safe_prime(p) and is_safe_prime(q)):
        raise WeakKeyError("a threshold key needs two safe primes")
    public = SecretKey.from_primes(p, q).public
    m = (p >> 1) * (q >> 1)
    order, square = public.n * m, mpz(public.n) ** 2
    # d = 0 modulo m and 1 modulo n, by the Chinese remainder theorem.
    secret = m * int(gmpy2.invert(m, public.n))
    polynomial = [secret, *(random_below(order) for _ in range(threshold - 1))]
    shares = [
        sum(factor * place**power for power, factor in enumerate(polynomial)) % order
        for place in range(1, len(holders) + 1)
    ]
    # The square of a random unit generates all squares, but for a chance of some 2^-1000.
    base = int(gmpy2.powmod(random_unit(int(square)), 2, square))
    delta = math.factorial(len(holders))
    key = ThresholdKey(
        public=public,
        base=base,
        threshold=threshold,
        holders=tuple(holders),
        verification=tuple(int(gmpy2.powmod_sec(base, delta * each, square)) for each in shares),
    )
    return tuple(KeyShare(key, name, share) for name, share in zip(holders, shares, strict=True))


def public_half(value: Any) -> PublicKey:
    """Returns what is encrypted to, of an ordinary key in JSON or of one that holders share.

    Args:
        value: Unverified parsed JSON, such as a job's `encryption_key`.

    Raises:
        WeakKeyError: If it is neither, or the key is refused.
    """
    if is_shared(value):
        return ThresholdKey.from_json(value).public
    return PublicKey.from_json(value)


def is_shared(value: Any) -> bool:
    """Whether a key in JSON says that holders share it."""
    return isinstance(value, Mapping) and "holders" in value


def named_holders(value: Any) -> frozenset[str]:
    """Returns the names of holders that a key in JSON gives; nobody vouches for the rest of it.

    Args:
        value: Parsed JSON, such as the `encryption_key` of a job that was examined before.
    """
    if not is_shared(value) or not isinstance(value["holders"], list | tuple):
        return frozenset()
    names = (each.get("holder") for each in value["holders"] if isinstance(each, Mapping))
    return frozenset(name for name in names if isinstance(name, str))


def read_number(text: Any, most_bytes: int) -> int:
    """Reads lower-case hexadecimal without leading zeros, of a bounded length.

    Raises:
        WeakKeyError: If it is anything else.
    """
    # The length is bounded before a long text is turned into a number.
    if not isinstance(text, str) or len(text) > 2 * most_bytes:
        raise WeakKeyError("a number of a threshold key is missing or too long")
    if not re.fullmatch("[1-9a-f][0-9a-f]*", text):
        raise WeakKeyError("a number of a threshold key is not lower-case hexadecimal")
    return int(text, 16)
