"""Encrypting on several cores: processes that get the public key and plaintexts, and nothing else.

What it decides: how work is cut up. What it does not do: decrypt; no secret key goes to another
process, and none could (`SecretKey` cannot be pickled).

    with EncryptionPool(public, processes=2) as pool:
        column = seal(pool, packing, words, progress=show)

Processes are spawned, not forked: a fork would copy whatever secrets this process holds, and locks
that its threads hold. Each makes a large table before its first work, with an h of its own, and is
kept until the pool is closed: a pool is for thousands of ciphertexts. Plaintexts reach it through
pipes of this machine.
"""

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Final, Self

from privacy.errors import EncryptionPoolError
from privacy.paillier.keys import PublicKey
from privacy.paillier.randomness import Progress, encryptor_of_many

MAX_PROCESSES: Final = 64

_CHUNK = 16
"""Plaintexts handed over at a time: some ten milliseconds of work against one of handing over."""


class EncryptionPool:
    """Encrypts under one key on several cores; used with `with`.

    Attributes:
        public: The receiver's key.
    """

    def __init__(self, public: PublicKey, processes: int = 2) -> None:
        """Starts the processes when there is work.

        Args:
            public: The receiver's key.
            processes: How many, 1 to 64.

        Raises:
            EncryptionPoolError: For another number of processes.
        """
        if type(processes) is not int or not 1 <= processes <= MAX_PROCESSES:
            raise EncryptionPoolError(f"an encryption pool has 1 to {MAX_PROCESSES} processes")
        self.public = public
        self._executor = ProcessPoolExecutor(
            processes,
            mp_context=get_context("spawn"),
            initializer=encryptor_of_many,
            initargs=(public,),
        )

    def __enter__(self) -> Self:
        """Returns the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the processes."""
        self._executor.shutdown(cancel_futures=True)

    def encrypt(
        self, plaintexts: Sequence[int], progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Encrypts each plaintext with fresh randomness, in order.

        Args:
            plaintexts: Numbers in [0, n).
            progress: Told how many are done after each piece of work.

        Raises:
            VectorError: If one is no integer in this range.
            EncryptionPoolError: If a process ended before its work was done.
        """
        pieces = [plaintexts[at : at + _CHUNK] for at in range(0, len(plaintexts), _CHUNK)]
        done: list[int] = []
        try:
            for piece in self._executor.map(_encrypt, [self.public] * len(pieces), pieces):
                done += piece
                if progress is not None:
                    progress(len(done), len(plaintexts))
        except BrokenExecutor:
            raise EncryptionPoolError from None
        return tuple(done)


def _encrypt(public: PublicKey, plaintexts: Sequence[int]) -> tuple[int, ...]:
    """What a process does; the table of the key is there from its start."""
    return encryptor_of_many(public).encrypt(plaintexts)
