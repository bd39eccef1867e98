"""The child process that works with SEAL, and the only door to `tenseal`.

What it decides: that bytes are what they must be before anything is computed with them: an object
that SEAL finds valid under *our* parameters, at the level, of the size and with the scale that a
fresh ciphertext or a finished result has. What it does not do: talk to anyone but its parent, whose
requests it trusts (`privacy.ckks.roles`); only the bodies of ciphertexts and keys may be hostile.

A request is the name of a method, its arguments as JSON, and byte strings. Everything stays in this
process's memory: SEAL saves to and loads from paths, and the path is a `memfd`.

No TenSEAL context is ever parsed, since one that a stranger made chooses its own parameters.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tenseal import sealapi as seal

from privacy.child import Frames, Refusal, answer_all
from privacy.ckks.batches import Batch, Packing, cut
from privacy.ckks.encrypted import GROUP
from privacy.secure_random import random_bytes

NOISE = 5.0
"""Where no billed row stands, noise is drawn evenly from [-5, 5]; true scores lie in [-1, 1]. No
larger square of such noise fits the three bits that `Parameters` leave above a score of 1."""

Values = npt.NDArray[np.float64]
Body = bytes
Answer = Callable[[dict[str, Any], list[Body]], Sequence[Body]]


def serve(frames: Frames) -> None:
    """Answers requests until the parent is gone."""
    engine = _Engine()
    answer_all(frames, engine.answer)


class _Engine:
    """One SEAL context, and whichever keys the parent handed in."""

    def __init__(self) -> None:
        self._file = os.memfd_create("seal", os.MFD_CLOEXEC)
        self._path = f"/proc/self/fd/{self._file}"
        self._plain = seal.Plaintext()
        self._relinearisation: Any = None
        self._answers: dict[str, Answer] = {
            "set_parameters": self.set_parameters,
            "generate": self.generate,
            "take_secret": self.take_secret,
            "take_public": self.take_public,
            "encrypt": self.encrypt,
            "decrypt": self.decrypt,
            "score": self.score,
            "add_up": self.add_up,
        }
        self._methods = {
            "predictor": self._predictor,
            "squares": self._squares,
            "sigmoid": self._sigmoid,
        }

    def answer(self, message: list[bytes]) -> Sequence[bytes]:
        name, arguments, *bodies = message
        return self._answers[name.decode()](json.loads(arguments), bodies)

    # --- parameters and keys ----------------------------------------------------------------

    def set_parameters(self, arguments: dict[str, Any], _bodies: list[Body]) -> list[Body]:
        """Makes the context; SEAL checks the 128-bit table once more."""
        degree = arguments["degree"]
        chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        chosen.set_poly_modulus_degree(degree)
        chosen.set_coeff_modulus(seal.CoeffModulus.Create(degree, arguments["prime_bits"]))
        self._context = seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)  # noqa: FBT003
        if not self._context.parameters_set():
            raise Refusal("parameters")
        self._slots = degree // 2
        self._scale = 2.0 ** arguments["scale_bits"]
        self._weight = 2.0 ** arguments["weight_bits"]
        self._encoder = seal.CKKSEncoder(self._context)
        self._evaluator = seal.Evaluator(self._context)
        return []

    def generate(self, arguments: dict[str, Any], _bodies: list[Body]) -> list[Body]:
        """A secret key, its public key and, if asked for, relinearisation keys."""
        maker = seal.KeyGenerator(self._context)
        public = seal.PublicKey()
        maker.create_public_key(public)
        keys = [self._save(maker.secret_key()), self._save(public)]
        if arguments["relinearisation"]:
            keys.append(self._save(maker.create_relin_keys()))
        return keys

    def take_secret(self, _arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """Loads the secret key, to encrypt and to decrypt with."""
        key = self._load(seal.SecretKey(), bodies[0], "key")
        self._owner = seal.Encryptor(self._context, key)
        self._decryptor = seal.Decryptor(self._context, key)
        return []

    def take_public(self, _arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """Loads the public key, and relinearisation keys where there are some."""
        key = self._load(seal.PublicKey(), bodies[0], "key")
        self._stranger = seal.Encryptor(self._context, key)
        if len(bodies) > 1:
            self._relinearisation = self._load(seal.RelinKeys(), bodies[1], "key")
        return []

    # --- encryption and decryption ----------------------------------------------------------

    def encrypt(self, arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """Encrypts float64[columns, rows], batch by batch and column by column.

        Under the secret key: c1 is then a seed, so the ciphertext is half as long and has less
        noise than one under the public key.
        """
        columns = np.frombuffer(bodies[0]).reshape(arguments["columns"], arguments["rows"])
        made = []
        packing = Packing(arguments["packing"])
        for batch in cut(arguments["rows"], self._slots, packing):
            for column in columns[:, batch.start : batch.start + batch.rows]:
                slots = column
                if packing is Packing.MOMENTS:
                    slots = column + 1j * column**2
                elif batch.paired:
                    slots = column[: self._slots] + 1j * column[self._slots :]
                # Slots beyond the last row become zeros.
                self._encoder.encode(slots.tolist(), self._scale, self._plain)
                made.append(self._save(self._owner.encrypt_symmetric(self._plain)))
        return made

    def decrypt(self, arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """Every slot of every ciphertext, complex128[ciphertexts, slots]."""
        low, high = 2.0 ** arguments["least_scale_bits"], 2.0 ** arguments["most_scale_bits"]
        opened = []
        for body in bodies:
            ciphertext = self._load(seal.Ciphertext(), body, "ciphertext")
            if not low <= ciphertext.scale <= high or not 2 <= ciphertext.size() <= 3:
                raise Refusal("ciphertext")
            self._decryptor.decrypt(ciphertext, self._plain)
            opened.append(np.array(self._encoder.decode_complex(self._plain)).tobytes())
        return opened

    # --- scoring ----------------------------------------------------------------------------

    def score(self, arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """One ciphertext of scores for each batch.

        The first two bodies are weights float64[units, columns] and offsets float64[units], scaled
        so that results lie in [-1, 1]; then the columns, batch by batch.
        """
        columns = arguments["columns"]
        batches = cut(arguments["rows"], self._slots, Packing(arguments["packing"]))
        weights = np.frombuffer(bodies[0]).reshape(-1, columns)
        offsets = np.frombuffer(bodies[1]).tolist()
        method = self._methods[arguments["method"]]
        scores = []
        for at, batch in enumerate(batches):
            first = 2 + at * columns
            inputs = [self._fresh(body) for body in bodies[first : first + columns]]
            units = (
                self._affine(inputs, unit.tolist(), offset, batch)
                for unit, offset in zip(weights, offsets, strict=True)
            )
            result = method(units, arguments)
            if not batch.paired:
                self._hide_unbilled(result, batch.rows)
            self._rerandomise(result)
            scores.append(self._save(result))
        return scores

    def _affine(self, inputs: list[Any], weights: list[float], offset: float, batch: Batch) -> Any:
        """The predictor of each row, zero in slots without a row, rescaled."""
        total = None
        for ciphertext, weight in zip(inputs, weights, strict=True):
            # A weight that rounds to zero would make a ciphertext that encrypts nothing.
            if abs(weight) * self._weight < 1:
                continue
            self._encode(weight, batch, ciphertext.parms_id(), self._weight)
            product = seal.Ciphertext()
            self._evaluator.multiply_plain(ciphertext, self._plain, product)
            if total is None:
                total = product
            else:
                self._evaluator.add_inplace(total, product)
        if total is None:
            raise Refusal("model")
        both = complex(offset, offset) if batch.paired else offset
        self._encode(both, batch, total.parms_id(), total.scale)
        self._evaluator.add_plain_inplace(total, self._plain)
        self._evaluator.rescale_to_next_inplace(total)
        return total

    def _encode(self, value: complex, batch: Batch, level: Any, scale: float) -> None:
        """`value` in each slot with a row: one number for all slots, or a vector with zeros."""
        if batch.rows >= self._slots:
            self._encoder.encode(value, level, scale, self._plain)
        else:
            self._encoder.encode([value] * batch.rows, level, scale, self._plain)

    def _predictor(self, units: Iterable[Any], _arguments: dict[str, Any]) -> Any:
        (only,) = units
        return only

    def _squares(self, units: Iterable[Any], arguments: dict[str, Any]) -> Any:
        """The signed squares' sum and the intercept; three polynomials, so no key is needed."""
        total: Any = None
        for unit, sign in zip(units, arguments["signs"], strict=True):
            self._evaluator.square_inplace(unit)
            if sign < 0:
                self._evaluator.negate_inplace(unit)
            if total is None:
                total = unit
            else:
                self._evaluator.add_inplace(total, unit)
        self._encoder.encode(arguments["intercept"], total.parms_id(), total.scale, self._plain)
        self._evaluator.add_plain_inplace(total, self._plain)
        self._evaluator.rescale_to_next_inplace(total)
        return total

    def _sigmoid(self, units: Iterable[Any], arguments: dict[str, Any]) -> Any:
        """1/2 + u (c1 + c3 u²) + u⁵ (c5 + c7 u²), on four levels below that of u."""
        (u,) = units
        c1, c3, c5, c7 = arguments["coefficients"]
        square = self._product(u, u)
        fourth = self._product(square, square)
        low = self._product(u, self._line(square, c3, c1))
        high = self._product(self._product(u, fourth), self._line(square, c7, c5))
        self._evaluator.mod_switch_to_inplace(low, high.parms_id())
        low.scale = high.scale  # they differ by the primes' distance from 2^45, below 1e-7
        self._evaluator.add_inplace(high, low)
        self._encoder.encode(0.5, high.parms_id(), high.scale, self._plain)
        self._evaluator.add_plain_inplace(high, self._plain)
        return high

    def _product(self, a: Any, b: Any) -> Any:
        """The product, both brought to the lower of their levels, relinearised and rescaled."""
        if self._relinearisation is None:
            raise Refusal("key")
        lower = min(a, b, key=self._level).parms_id()
        left, right = seal.Ciphertext(), seal.Ciphertext()
        self._evaluator.mod_switch_to(a, lower, left)
        self._evaluator.mod_switch_to(b, lower, right)
        self._evaluator.multiply_inplace(left, right)
        self._evaluator.relinearize_inplace(left, self._relinearisation)
        self._evaluator.rescale_to_next_inplace(left)
        return left

    def _line(self, x: Any, slope: float, offset: float) -> Any:
        """The straight line through `offset` with this slope, rescaled."""
        line = seal.Ciphertext()
        self._encoder.encode(slope, x.parms_id(), self._weight, self._plain)
        self._evaluator.multiply_plain(x, self._plain, line)
        self._encoder.encode(offset, line.parms_id(), line.scale, self._plain)
        self._evaluator.add_plain_inplace(line, self._plain)
        self._evaluator.rescale_to_next_inplace(line)
        return line

    def _level(self, ciphertext: Any) -> int:
        level: int = self._context.get_context_data(ciphertext.parms_id()).chain_index()
        return level

    def _hide_unbilled(self, result: Any, rows: int) -> None:
        """Adds noise wherever no row was declared: slots beyond, and all imaginary parts.

        Beyond the rows the weights are zero already, up to how an encoding rounds, and the noise
        is 2^40 times that for values within their bounds. An imaginary part may hold a second row
        that nobody declared, and without Galois keys it cannot be taken off: there the noise
        alone stands before a score.
        """
        drawn = np.frombuffer(random_bytes(16 * self._slots), dtype=np.uint64)
        noise = ((drawn / 2.0**63 - 1.0) * NOISE).view(np.complex128)
        noise[:rows] = 1j * noise[:rows].imag
        self._encoder.encode(noise.tolist(), result.parms_id(), result.scale, self._plain)
        self._evaluator.add_plain_inplace(result, self._plain)

    def _rerandomise(self, result: Any) -> None:
        """Adds a fresh encryption of zero, so that c1 is no plain combination of the inputs'."""
        zero = seal.Ciphertext()
        self._stranger.encrypt_zero(result.parms_id(), zero)
        zero.scale = result.scale
        self._evaluator.add_inplace(result, zero)

    # --- sums -------------------------------------------------------------------------------

    def add_up(self, arguments: dict[str, Any], bodies: list[Body]) -> list[Body]:
        """For each group of batches and each column, the sum of its ciphertexts."""
        columns = arguments["columns"]
        group = GROUP * columns
        sums = []
        for start in range(0, len(bodies), group):
            some = bodies[start : start + group]
            for column in range(columns):
                first, *others = some[column::columns]
                total = self._fresh(first)
                for body in others:
                    self._evaluator.add_inplace(total, self._fresh(body))
                sums.append(self._save(total))
        return sums

    # --- SEAL's bytes -----------------------------------------------------------------------

    def _fresh(self, body: Body) -> Any:
        """A ciphertext as `encrypt` makes it: two polynomials, first level, our scale."""
        ciphertext = self._load(seal.Ciphertext(), body, "ciphertext")
        if (
            ciphertext.size() != 2
            or ciphertext.parms_id() != self._context.first_parms_id()
            or ciphertext.scale != self._scale
            or not ciphertext.is_ntt_form()
        ):
            raise Refusal("ciphertext")
        return ciphertext

    def _save(self, thing: Any) -> Body:
        thing.save(self._path)
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def _load(self, empty: Any, body: Body, word: str) -> Any:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, body, 0)
        try:
            empty.load(self._context, self._path)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - SEAL raises many kinds, and their text stays here
            raise Refusal(word) from None
        return empty
