"""The owner and the scorer: who may do what with which key.

What it decides: which request goes to a child, with which of the checked values. What it does not
do: carry bytes from one to the other, or bill for the rows; `EncryptedColumns.rows` is what to
bill, and a scorer returns nothing about slots beyond.

    with Owner.start(secret) as owner, Scorer.start(public) as scorer:
        columns = owner.encrypt(rows, bounds, Packing.PAIRED)
        raw = owner.decrypt_scores(scorer.score(model, columns))

Each role has a child process of its own, which takes about 0.2 s to start and answers many
requests. SEAL works while Python's lock is held, so two scorers in one process would take turns;
two children do not.
"""

from typing import Self

import numpy as np
import numpy.typing as npt

from privacy.child import ChildLimits, EndsWithBlock
from privacy.ckks.batches import Packing, cut
from privacy.ckks.encrypted import (
    Answer,
    EncryptedColumns,
    EncryptedScores,
    EncryptedSums,
    check_bounds,
    check_rows,
)
from privacy.ckks.keys import PublicContext, SecretContext
from privacy.ckks.model import Model
from privacy.ckks.plan import plan_scores
from privacy.ckks.results import RawMoments, RawScores
from privacy.ckks.sigmoid import fit_sigmoid
from privacy.ckks.worker import LIMITS, Engine, start_engine
from privacy.errors import ApproximationError, ColumnsError, SealedBytesError

Rows = npt.NDArray[np.float64]
Slots = npt.NDArray[np.complex128]

_SCORE_SCALES = {"least_scale_bits": 30, "most_scale_bits": 56}


class _Role(EndsWithBlock):
    """A context manager around an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def end(self) -> None:
        """Ends the child process."""
        self._engine.end()


class Owner(_Role):
    """Holds the secret key; encrypts rows and decrypts what comes back."""

    def __init__(self, engine: Engine, public: PublicContext) -> None:
        """Use `start`."""
        super().__init__(engine)
        self._public = public

    @classmethod
    def start(cls, secret: SecretContext, limits: ChildLimits = LIMITS) -> Self:
        """Starts the owner's child process and gives it the secret key.

        Raises:
            ChildError: If it fails, or the key is none.
        """
        engine = start_engine(secret.public.parameters, limits)
        try:
            engine.ask("take_secret", {}, [secret.raw_secret])
        except BaseException:
            engine.end()
            raise
        return cls(engine, secret.public)

    def encrypt(
        self, rows: Rows, bounds: tuple[float, ...], packing: Packing = Packing.SINGLE
    ) -> EncryptedColumns:
        """Encrypts rows column by column.

        Args:
            rows: float64[rows, columns], at least one row; each value finite and within its
                column's bound.
            bounds: One for each column. They are public, and results are exact relative to them.
            packing: SINGLE for every model, PAIRED for linear predictors, MOMENTS for sums.

        Raises:
            ColumnsError: Naming the row and column of the first value that is not, never the
                value.
            ChildError: If the child fails.
        """
        check_bounds(bounds)
        if rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != len(bounds):
            raise ColumnsError(f"rows must be float64[rows, {len(bounds)}]")
        check_rows(rows.shape[0])
        # NaN compares with nothing, so it is not within.
        outside = ~(np.abs(rows) <= np.array(bounds))
        if outside.any():
            row, column = np.argwhere(outside)[0].tolist()
            raise ColumnsError(
                f"row {row}, column {column}: the value is not finite or beyond its bound"
            )
        shape = {"rows": rows.shape[0], "columns": rows.shape[1], "packing": packing}
        scaled = np.ascontiguousarray((rows / np.array(bounds)).T)
        bodies = self._engine.ask("encrypt", shape, [scaled.tobytes()])
        return EncryptedColumns(
            parameters=self._public.parameters,
            key=self._public.sha256,
            rows=rows.shape[0],
            packing=packing,
            bounds=bounds,
            bodies=tuple(bodies),
        )

    def decrypt_scores(self, scores: EncryptedScores) -> RawScores:
        """Opens scores; a row's score alone, and never what stands beyond the last row.

        Raises:
            SealedBytesError: If they are under another key.
            ApproximationError: If an approximate probability lies outside of [0, 1] by more than
                the polynomial's error: a value was out of bounds, or the scores are damaged.
            ChildError: If the child fails or refuses a ciphertext.
        """
        check_key(self._public, scores)
        slots = self._decrypt(scores.bodies, _SCORE_SCALES)
        values = _in_order(slots, scores) * scores.factor
        if scores.answer is Answer.PROBABILITY:
            beyond = fit_sigmoid().error + 1e-4
            outside = ~((values >= -beyond) & (values <= 1 + beyond))
            if outside.any():
                raise ApproximationError(
                    f"row {int(np.argmax(outside))}: the polynomial left the range of the sigmoid"
                )
        return RawScores(values, scores.answer, scores.link, scores.factor, scores.parameters)

    def decrypt_sums(self, sums: EncryptedSums) -> RawMoments:
        """Opens sums, adds the slots, and takes means and variances.

        Raises:
            SealedBytesError: If they are under another key.
            ChildError: If the child fails or refuses a ciphertext.
        """
        check_key(self._public, sums)
        scale = sums.parameters.scale_bits
        scales = {"least_scale_bits": scale, "most_scale_bits": scale}
        bounds = np.array(sums.bounds)
        # Slots beyond the last row hold nothing but noise.
        slots = self._decrypt(sums.bodies, scales)[:, : sums.rows]
        totals = slots.sum(axis=1).reshape(-1, len(bounds)).sum(axis=0)
        means = totals.real / sums.rows
        # Relative to the bounds; the noise may put a variance of zero just below it.
        variances = np.maximum(totals.imag / sums.rows - means**2, 0.0)
        return RawMoments(
            rows=sums.rows,
            sums=totals.real * bounds,
            means=means * bounds,
            variances=variances * bounds**2,
            bounds=sums.bounds,
            parameters=sums.parameters,
        )

    def _decrypt(self, bodies: tuple[bytes, ...], scales: dict[str, int]) -> Slots:
        opened = self._engine.ask("decrypt", scales, bodies)
        return np.stack([np.frombuffer(one, dtype=np.complex128) for one in opened])


class Scorer(_Role):
    """Holds a public context; works on encrypted columns of its key."""

    def __init__(self, engine: Engine, public: PublicContext) -> None:
        """Use `start`."""
        super().__init__(engine)
        self._public = public

    @classmethod
    def start(cls, public: PublicContext, limits: ChildLimits = LIMITS) -> Self:
        """Starts the scorer's child process and gives it the public keys.

        Raises:
            ChildError: If it fails, or a key is none.
        """
        engine = start_engine(public.parameters, limits)
        try:
            engine.ask("take_public", {}, public.bodies)
        except BaseException:
            engine.end()
            raise
        return cls(engine, public)

    def score(
        self, model: Model, columns: EncryptedColumns, *, probabilities: bool = False
    ) -> EncryptedScores:
        """Scores each of the declared rows; slots beyond them hold noise.

        Args:
            model: What to evaluate, in the clear.
            columns: The owner's rows.
            probabilities: Whether to evaluate a polynomial in place of the sigmoid, instead of
                returning linear predictors.

        Raises:
            SealedBytesError: If the columns are under another key.
            ColumnsError, ModelError, ParametersError: If columns, model and parameters do not fit.
            ChildError: If the child fails or refuses a ciphertext.
        """
        check_key(self._public, columns)
        plan = plan_scores(model, columns, probabilities=probabilities)
        arguments = {
            "method": plan.method,
            "rows": columns.rows,
            "columns": columns.columns,
            "packing": columns.packing,
            **plan.details,
        }
        numbers = [plan.weights.tobytes(), plan.offsets.tobytes()]
        bodies = self._engine.ask("score", arguments, [*numbers, *columns.bodies])
        return EncryptedScores(
            parameters=columns.parameters,
            key=columns.key,
            rows=columns.rows,
            packing=columns.packing,
            answer=plan.answer,
            link=plan.link,
            factor=plan.factor,
            bodies=tuple(bodies),
        )

    def add_up(self, columns: EncryptedColumns) -> EncryptedSums:
        """Adds each column's values and squares, slot by slot; the owner adds the slots.

        The owner squares before it encrypts. Squaring here needs a modulus half as long again and
        took twice the time; a second column of squares takes twice the time as well.

        Raises:
            SealedBytesError: If the columns are under another key.
            ColumnsError: If the columns are not packed for sums.
            ChildError: If the child fails or refuses a ciphertext.
        """
        check_key(self._public, columns)
        if columns.packing is not Packing.MOMENTS:
            raise ColumnsError("sums need columns with squares beside the values")
        bodies = self._engine.ask("add_up", {"columns": columns.columns}, columns.bodies)
        return EncryptedSums(
            columns.parameters, columns.key, columns.rows, columns.bounds, tuple(bodies)
        )


def check_key(
    public: PublicContext, encrypted: EncryptedColumns | EncryptedScores | EncryptedSums
) -> None:
    """Checks that something is encrypted under this key, and read with its parameters.

    Raises:
        SealedBytesError: If it is not.
    """
    if encrypted.key != public.sha256:
        raise SealedBytesError("these bytes are encrypted under another key")
    if encrypted.parameters != public.parameters:
        raise SealedBytesError("these bytes name other parameters than their key has")


def _in_order(slots: Slots, scores: EncryptedScores) -> Rows:
    """The billed rows' numbers, float64[rows]; imaginary parts count where rows stand in pairs."""
    parts = []
    for batch, line in zip(cut(scores.rows, slots.shape[1], scores.packing), slots, strict=True):
        parts += [line.real, line.imag] if batch.paired else [line.real[: batch.rows]]
    return np.concatenate(parts)
