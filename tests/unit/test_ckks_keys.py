import copy
import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tenseal import sealapi

from privacy.ckks.container import digest
from privacy.ckks.keys import PublicContext, SecretContext
from privacy.ckks.parameters import LINEAR, SIGMOID, Parameters
from privacy.ckks.roles import Owner
from privacy.errors import (
    ChildRefusalError,
    KeyFileError,
    ParametersError,
    PrivacyError,
    SealedBytesError,
)


@pytest.fixture(scope="module")
def secret() -> SecretContext:
    return SecretContext.generate(LINEAR)


def coefficients(secret: SecretContext, folder: Path) -> Iterator[bytes]:
    """The secret polynomial itself, eight bytes a coefficient, as SEAL holds it in memory."""
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(LINEAR.degree)
    parameters.set_coeff_modulus(
        sealapi.CoeffModulus.Create(LINEAR.degree, list(LINEAR.prime_bits))
    )
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)  # noqa: FBT003
    path = folder / "key"
    path.write_bytes(secret.raw_secret)
    key = sealapi.SecretKey()
    key.load(context, str(path))
    plain = key.data()
    for at in range(0, plain.coeff_count(), 50):
        yield plain[at].to_bytes(8, "little")


def windows(secret: SecretContext) -> Iterator[bytes]:
    key = secret.raw_secret
    for start in range(64, len(key) - 16, 64):
        yield key[start : start + 16]


def test_public_bytes_hold_nothing_of_the_secret_key_and_the_secret_file_does(
    secret: SecretContext, tmp_path: Path
):
    public = secret.public.to_bytes()
    assert not any(window in public for window in windows(secret))
    assert not any(one in public for one in coefficients(secret, tmp_path))
    path = tmp_path / "secret"
    secret.save(path)
    content = path.read_bytes()
    assert all(window in content for window in windows(secret))


def test_the_public_type_has_no_place_for_a_secret_key(secret: SecretContext):
    names = {field.name for field in dataclasses.fields(PublicContext)}
    assert names == {"parameters", "public_key", "relinearisation"}
    # Without relinearisation and Galois keys: 192 KiB of coefficients at most.
    assert len(secret.public.to_bytes()) < 200_000


def test_public_bytes_go_there_and_back(secret: SecretContext):
    public = secret.public
    assert PublicContext.from_bytes(public.to_bytes(), sha256=public.sha256) == public


def test_relinearisation_keys_go_with_one_set_alone(secret: SecretContext):
    with pytest.raises(SealedBytesError):
        PublicContext(LINEAR, secret.public.public_key, b"keys")
    with pytest.raises(SealedBytesError):
        PublicContext(SIGMOID, secret.public.public_key)
    assert PublicContext(SIGMOID, secret.public.public_key, b"keys").bodies[1] == b"keys"


def test_public_bytes_of_another_digest_are_refused(secret: SecretContext):
    data = secret.public.to_bytes()
    with pytest.raises(SealedBytesError, match="digest"):
        PublicContext.from_bytes(data, sha256=digest(data + b"x"))


def test_a_public_context_with_a_key_too_many_is_refused(secret: SecretContext):
    data = secret.public.to_bytes()
    other = data.replace(b'"bodies":[', b'"bodies":[1,', 1)
    other = other.replace(b"}\n", b"}\nx", 1)
    with pytest.raises(SealedBytesError):
        PublicContext.from_bytes(other, sha256=digest(other))


@pytest.mark.parametrize("parameters", [Parameters(4096, (60, 49), 20, 20)])
def test_keys_are_made_for_named_sets_alone(parameters: Parameters):
    with pytest.raises(ParametersError):
        SecretContext.generate(parameters)


def test_a_saved_key_opens_what_it_encrypted_before(secret: SecretContext, tmp_path: Path):
    path = tmp_path / "secret"
    secret.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = SecretContext.load(path)
    assert loaded.public == secret.public
    assert loaded.raw_secret == secret.raw_secret
    with pytest.raises(KeyFileError, match="never overwritten"):
        secret.save(path)


def test_a_key_file_that_others_can_read_is_refused(secret: SecretContext, tmp_path: Path):
    path = tmp_path / "secret"
    secret.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        SecretContext.load(path)


def test_a_missing_a_long_and_an_irregular_file_are_refused(tmp_path: Path):
    with pytest.raises(KeyFileError, match="cannot be read"):
        SecretContext.load(tmp_path / "none")
    with pytest.raises(KeyFileError):
        SecretContext.load(tmp_path)
    long = tmp_path / "long"
    long.touch(mode=0o600)
    with long.open("r+b") as file:
        file.truncate((1 << 24) + 1)
    with pytest.raises(KeyFileError, match="longer"):
        SecretContext.load(long)
    with pytest.raises(KeyFileError, match="cannot be written"):
        SecretContext.generate(LINEAR).save(tmp_path / "no" / "folder")


def test_neither_repr_nor_pickle_nor_copy_shows_the_key(secret: SecretContext):
    assert len(repr(secret)) < 300
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ParametersError, match="save it"):
            attempt(secret)


@pytest.mark.parametrize("key", [b"", b"x", b"\0" * 70_000, np.random.default_rng(1).bytes(60_000)])
def test_a_child_refuses_a_secret_key_that_is_none(secret: SecretContext, key: bytes):
    with pytest.raises(ChildRefusalError, match="key"):
        Owner.start(SecretContext(secret.public, key))


def test_the_key_of_another_set_is_refused(secret: SecretContext):
    other = PublicContext(SIGMOID, b"public", b"keys")
    with pytest.raises(PrivacyError):
        Owner.start(SecretContext(other, secret.raw_secret))
