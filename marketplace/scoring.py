"""The buyer's side of scoring: rows become encrypted inputs, and a result becomes scores.

Decides which key is used and which bounds are declared. The secret key stays in the party's folder
(`scoring.key`, 0600); what leaves are the public key and encrypted columns. A column's bound is the
smallest power of two that no value of it exceeds, and is public: node and operator see it.

    sealed = seal(folder, rows, ("age", "chol"), answer="probability")
    sealed.parameters              # of the job
    sealed.inputs                  # what is handed in before
    opened(folder, job, result)    # {"rows": 30, "scores": [0.12, …]}

Scores are raw CKKS results: whoever is given many of them may find the secret key. They are for the
key's owner alone; what is passed on has to be rounded (see *Encrypted scoring* in CLAIMS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from federated.errors import TaskError
from federated.scoring_limits import MOST_INPUT_BYTES
from federated.tasks.scoring import ScoringTask, read_scores
from ledger.encoding import sha256_text
from ledger.statements import Job
from marketplace.errors import MarketplaceError
from privacy.ckks.batches import Packing
from privacy.ckks.encrypted import Answer
from privacy.ckks.keys import SecretContext
from privacy.ckks.parameters import LINEAR
from privacy.ckks.roles import Owner
from privacy.errors import PrivacyError

KEY = "scoring.key"

Rows = npt.NDArray[np.float64]


class ScoresError(MarketplaceError):
    """Rows cannot be encrypted, or scores cannot be opened."""

    default_code = "scores"


@dataclass(frozen=True)
class SealedRows:
    """Encrypted rows of one job.

    Attributes:
        parameters: of the job that scores them.
        inputs: what is handed in before it: the public key, then the columns.
    """

    parameters: Mapping[str, Any]
    inputs: tuple[bytes, ...] = field(repr=False)


def seal(folder: Path, rows: Rows, features: Sequence[str], answer: str) -> SealedRows:
    """Encrypt rows under the party's own key, which is made when it is first needed.

    Args:
        folder: the party's.
        rows: float64[rows, features], finite.
        features: names of the columns, as the model has them.
        answer: `predictor` or `probability`.

    Raises:
        ScoresError: the rows cannot be encrypted, or the key's file cannot be trusted. The message
            names row and column, never a value.
        TaskError: no parameters of a job can be made of this.
    """
    bounds = bounds_of(rows)
    try:
        secret = _key(folder)
        with Owner.start(secret) as owner:
            columns = owner.encrypt(rows, bounds, Packing.PAIRED).to_bytes()
    except PrivacyError as error:
        raise ScoresError(str(error)) from error
    if len(columns) > MOST_INPUT_BYTES:
        raise ScoresError(
            f"{len(rows)} rows take {len(columns)} bytes encrypted, and one job takes "
            f"{MOST_INPUT_BYTES}: score them in several jobs"
        )
    context = secret.public.to_bytes()
    given = {
        "features": list(features),
        "rows": len(rows),
        "context": sha256_text(context),
        "columns": sha256_text(columns),
        "answer": answer,
    }
    return SealedRows(ScoringTask().parse_parameters(given), (context, columns))


def bounds_of(rows: Rows) -> tuple[float, ...]:
    """Return for each column the smallest power of two that no magnitude in it exceeds.

    Raises:
        ScoresError: there is no row or no column, or a value that is not finite; names the column.
    """
    if rows.ndim != 2 or not rows.size:
        raise ScoresError("at least one row and one column are needed")
    bounds = []
    for at, largest in enumerate(np.abs(rows).max(axis=0).tolist()):
        if not math.isfinite(largest) or largest > 1e99:
            raise ScoresError(f"column {at}: each value must be a finite number of ordinary size")
        mantissa, exponent = math.frexp(largest)
        # A column of zeros is bounded by 1, and so is one of values too small to matter.
        bounds.append(2.0 ** (exponent - (mantissa == 0.5)) if largest > 1e-99 else 1.0)
    return tuple(bounds)


def opened(folder: Path, job: Job, result: dict[str, Any]) -> dict[str, Any]:
    """Return a verified result with its scores decrypted; that of any other task as it is.

    Args:
        folder: of the researcher, with the key that the job was encrypted under.
        job: as signed.
        result: what the receipted report says.

    Raises:
        ScoresError: the scores are not under this key, or cannot be opened.
    """
    if job.task != ScoringTask.name:
        return result
    try:
        scores = read_scores(job.parameters, result["scores"])
        with Owner.start(SecretContext.load(folder / KEY)) as owner:
            raw = owner.decrypt_scores(scores)
        asked = job.parameters["answer"]
        values = raw.probabilities() if asked == Answer.PROBABILITY else raw.values
    except (PrivacyError, TaskError) as error:
        raise ScoresError(f"the scores cannot be opened: {error}") from error
    return {"rows": scores.rows, "scores": values.tolist()}


def _key(folder: Path) -> SecretContext:
    if not (folder / KEY).exists():
        SecretContext.generate(LINEAR).save(folder / KEY)
    return SecretContext.load(folder / KEY)
