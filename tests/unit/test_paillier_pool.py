"""Encrypting in several processes."""

import os
import signal
from pathlib import Path

import gmpy2
import numpy as np
import pytest

from privacy.errors import EncryptionPoolError, VectorError
from privacy.paillier import EncryptionPool, Packing, SecretKey, open_column, seal
from privacy.paillier.cipher import decrypt


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.generate(2048)


@pytest.mark.slow
def test_two_processes_encrypt_in_order_and_tell_how_far_they_are(secret: SecretKey):
    words = np.arange(3000, dtype=np.uint64)
    packing, seen = Packing(weight=1), list[tuple[int, int]]()
    with EncryptionPool(secret.public, processes=2) as pool:
        column = seal(pool, packing, words, lambda *step: seen.append(step))
        again = pool.encrypt([5, 5])
    assert (open_column(secret, column) == words).all()
    assert len(set(column.ciphertexts + again)) == len(column.ciphertexts) + 2
    assert decrypt(secret, again) == [5, 5]
    count = len(column.ciphertexts)
    assert seen == [(min(done, count), count) for done in range(16, count + 16, 16)]


@pytest.mark.slow
def test_a_refusal_in_a_process_is_the_same_error(secret: SecretKey):
    with EncryptionPool(secret.public, processes=1) as pool:
        with pytest.raises(VectorError, match="plaintext 1 "):
            pool.encrypt([0, secret.public.n])
        assert decrypt(secret, pool.encrypt([7])) == [7]


@pytest.mark.slow
def test_a_process_that_dies_is_a_typed_error(secret: SecretKey):
    with EncryptionPool(secret.public, processes=1) as pool:
        assert decrypt(secret, pool.encrypt([7])) == [7]
        (number,) = pool._executor._processes
        os.kill(number, signal.SIGKILL)
        with pytest.raises(EncryptionPoolError, match="before its work was done"):
            pool.encrypt([1] * 100)


@pytest.mark.slow
def test_a_process_gets_no_secret_key(secret: SecretKey):
    with EncryptionPool(secret.public, processes=1) as pool:
        pool.encrypt([7])
        (number,) = pool._executor._processes
        memory = raw_memory(number)
        public = secret.public.n
    p, _ = secret.raw_primes()
    # Integers lie in memory in digits of 30 bits or as GMP's limbs: the modulus is found, p is not.
    assert limbs(public) in memory
    assert limbs(p) not in memory
    # The twin: this process, which has the key, has p in it.
    holder = gmpy2.mpz(p)
    assert limbs(p) in raw_memory(os.getpid())
    assert holder == p


def limbs(number: int) -> bytes:
    return number.to_bytes(-(-number.bit_length() // 64) * 8, "little")


def raw_memory(process: int) -> bytes:
    """Returns what a process has written, where the system lets a parent look."""
    try:
        return _read_memory(process)
    except PermissionError:
        pytest.skip("this system lets nobody read another process's memory")


def _read_memory(process: int) -> bytes:
    found = bytearray()
    maps = Path(f"/proc/{process}/maps").read_text(encoding="ascii").splitlines()
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if mode.startswith("rw") and "[v" not in line:
                memory.seek(start)
                found += memory.read(end - start) or b""
    return bytes(found)


@pytest.mark.parametrize("processes", [0, -1, 65, 1.0, True])
def test_an_impossible_number_of_processes_is_refused(secret: SecretKey, processes: object):
    with pytest.raises(EncryptionPoolError, match="1 to 64"):
        EncryptionPool(secret.public, processes)


def test_a_pool_without_work_starts_no_process(secret: SecretKey):
    with EncryptionPool(secret.public) as pool:
        assert pool.encrypt([]) == ()
        assert not pool._executor._processes
