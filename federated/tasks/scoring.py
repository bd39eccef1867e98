"""Task `scoring`: scores of encrypted rows by a provider's linear model, which stays at its node.

The asset is the model: a table with the columns `feature` and `weight`, one row of which is named
`(intercept)`. The researcher encrypts rows column by column (`privacy.ckks`), hands public key and
columns in, and signs their digests in the job; the node computes on what it cannot read, and
reports scores that the researcher's key alone opens. Linear predictors cross in both cases: of a
`probability` the researcher's client takes the exact sigmoid.

How many rows one use may score is fixed in the agreement (`federated.scoring_limits`). The rows
that the job declares are those that are scored, receipted and billed.

Result: {"rows": n, "scores": base64 of `privacy.ckks.encrypted.EncryptedScores`}
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from federated.errors import InputError, TaskError, suggestion
from federated.plan import Plan
from federated.scoring_limits import MOST_ROWS
from federated.tasks import parameters as read
from federated.tasks.joint import JointTask, Part, Place, Talk
from federated.tasks.question import PreparedRows
from ledger.encoding import b64decode, b64encode, sha256_text
from ledger.errors import EncodingError
from privacy.ckks.batches import Packing
from privacy.ckks.container import digest
from privacy.ckks.encrypted import Answer, EncryptedColumns, EncryptedScores
from privacy.ckks.keys import PublicContext
from privacy.ckks.model import LinearModel, Link
from privacy.ckks.parameters import LINEAR
from privacy.ckks.roles import Scorer
from privacy.errors import ModelError, PrivacyError

FEATURE, WEIGHT, INTERCEPT = "feature", "weight", "(intercept)"
"""The two columns of a model, and the name of the row that is added to every score."""

ANSWERS = (str(Answer.PREDICTOR), str(Answer.PROBABILITY))
MOST_FEATURES = 512

_ROWS = "all"
_KEYS = ("features", "rows", "context", "columns", "answer")
_INPUTS = ("context", "columns")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_NAME = 256


class ScoringTask(JointTask):
    """The task `scoring`."""

    name: ClassVar[str] = "scoring"
    version: ClassVar[int] = 1
    most_rounds: ClassVar[int] = 1

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns features, rows, the digests of public key and columns, and the answer.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, _KEYS)
        rows, answer = given.get("rows"), given.get("answer", ANSWERS[0])
        if type(rows) is not int or not 1 <= rows <= MOST_ROWS:
            raise TaskError("bad_parameter", f"rows: a whole number from 1 to {MOST_ROWS}")
        if answer not in ANSWERS:
            raise TaskError(
                "bad_parameter", f"answer: {answer!r} is none{suggestion(str(answer), ANSWERS)}"
            )
        for key in _INPUTS:
            if not isinstance(given.get(key), str) or not _DIGEST.fullmatch(given[key]):
                raise TaskError("bad_parameter", f"{key}: a digest is needed, sha256:…")
        return {
            "features": _features(given.get("features")),
            "rows": rows,
            "context": given["context"],
            "columns": given["columns"],
            "answer": answer,
        }

    def inputs(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns the digests of public key and encrypted columns."""
        named = (parameters.get(key) for key in _INPUTS)
        return tuple(each for each in named if isinstance(each, str))

    def billed_rows(self, plan: Plan) -> int | None:
        """Returns the rows that the job declares; those of the asset are coefficients."""
        return int(plan.parameters["rows"])

    def check_plan(self, plan: Plan) -> None:
        """Checks that there is one asset, which may be a model, and as few rows as agreed.

        Raises:
            TaskError: bad_parameter, unknown_column, not_numeric, too_many_rows or other_features.
        """
        if len(plan.cohort) != 1:
            raise TaskError(
                "bad_parameter", f"one model scores, and the job names {len(plan.cohort)} assets"
            )
        if plan.preparation.score is None:
            raise TaskError(
                "bad_parameter", "the agreement fixes no `score`: how many rows a use may score"
            )
        most, rows = plan.preparation.score.most_rows, plan.parameters["rows"]
        if rows > most:
            raise TaskError("too_many_rows", f"{rows} rows, and a use scores at most {most}")
        plan.facts(FEATURE)
        plan.numeric(WEIGHT)
        (model,), features = plan.cohort, plan.parameters["features"]
        if model.rows != len(features) + 1:
            raise TaskError(
                "other_features",
                f"{model.name} has {model.rows - 1} coefficients beside its intercept, and the job "
                f"names {len(features)} features",
            )

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns that every coefficient takes part."""
        del plan
        return (_ROWS,)

    def check_rows(self, plan: Plan, asset: str, rows: PreparedRows) -> None:
        """Checks that an asset is a model of these features.

        Raises:
            TaskError: bad_model or other_features.
        """
        del asset
        _model(plan, rows)

    def take_part(self, plan: Plan, place: Place, rows: PreparedRows) -> Talk:
        """Scores the rows; says nothing to anybody, and reports.

        Raises:
            InputError: no_input, or bad_input: not what the job names, or not to be computed on.
            TaskError: bad_model or other_features.
        """
        yield from ()
        model = _model(plan, rows)
        try:
            scores = _scores(plan, model, place.fetch)
        except PrivacyError as error:
            raise InputError("bad_input", f"the encrypted rows: {error}") from error
        return Part({"rows": scores.rows, "scores": b64encode(scores.to_bytes())})

    def conclude(self, plan: Plan, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the one report, if it has scores of these rows under this key.

        Raises:
            TaskError: reports_differ.
        """
        (model,) = plan.cohort
        report = reports.get(model.asset_id, {})
        if set(report) != {"rows", "scores"} or report["rows"] != plan.parameters["rows"]:
            raise TaskError("reports_differ", "the node does not report scores of these rows")
        read_scores(plan.parameters, report["scores"])
        return dict(report)


def read_scores(parameters: Mapping[str, Any], text: Any) -> EncryptedScores:
    """Reads the scores of a result; nothing is decrypted.

    Args:
        parameters: The job's.
        text: Unverified, base64.

    Raises:
        TaskError: reports_differ: they are none, or of other rows, or under another key.
    """
    try:
        data = b64decode(text)
        scores = EncryptedScores.from_bytes(data, sha256=digest(data))
    except (EncodingError, PrivacyError, TypeError, AttributeError) as error:
        raise TaskError("reports_differ", "these are no encrypted scores") from error
    named = (f"sha256:{scores.key}", scores.rows, scores.answer, scores.link)
    if named != (parameters["context"], parameters["rows"], Answer.PREDICTOR, _link(parameters)):
        raise TaskError("reports_differ", "these scores are not those that the job asks for")
    return scores


def _features(given: Any) -> list[str]:
    """Returns distinct names.

    Raises:
        TaskError: bad_parameter.
    """
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= MOST_FEATURES:
        raise TaskError("bad_parameter", f"features: a list of 1 to {MOST_FEATURES} names")
    for name in given:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or name == INTERCEPT:
            raise TaskError("bad_parameter", "features: the names of a model's features")
    if len(set(given)) != len(given):
        raise TaskError("bad_parameter", "features: a feature is named twice")
    return list(given)


def _link(parameters: Mapping[str, Any]) -> Link:
    return Link.LOGISTIC if parameters["answer"] == Answer.PROBABILITY else Link.IDENTITY


def _model(plan: Plan, rows: PreparedRows) -> LinearModel:
    """Returns the model with its weights in the order of the job's features.

    Raises:
        TaskError: bad_model: a name stands twice, a weight is missing, or none is different from
            zero; other_features: it is a model of others than the job names.
    """
    names, weights = rows.texts(FEATURE, _ROWS), rows.column(WEIGHT, _ROWS)
    if len(set(names)) != len(names) or INTERCEPT not in names or np.isnan(weights).any():
        raise TaskError(
            "bad_model", f"a model names each feature and {INTERCEPT} once, each with its weight"
        )
    weight_of = dict(zip(names, weights.tolist(), strict=True))
    features = plan.parameters["features"]
    if set(features) != set(names) - {INTERCEPT}:
        raise TaskError("other_features", "the job names other features than the model has")
    ordered = tuple(weight_of[name] for name in features)
    try:
        return LinearModel(ordered, weight_of[INTERCEPT], _link(plan.parameters))
    except ModelError as error:
        raise TaskError("bad_model", str(error)) from error


def _scores(
    plan: Plan, model: LinearModel, fetch: Callable[[str], bytes] | None
) -> EncryptedScores:
    """Fetches what the job names, and scores it.

    Raises:
        InputError: it is not to be had, or not what the job names.
        PrivacyError: it has another form, or cannot be computed on.
    """
    context, data = (_fetched(plan.parameters[key], fetch) for key in _INPUTS)
    public = PublicContext.from_bytes(context, sha256=digest(context))
    columns = EncryptedColumns.from_bytes(data, sha256=digest(data))
    shape = (columns.rows, columns.columns)
    if shape != (plan.parameters["rows"], len(plan.parameters["features"])):
        raise InputError("bad_input", "the columns are of other rows or features than the job")
    if public.parameters != LINEAR or columns.packing is not Packing.PAIRED:
        # Others take more memory, and scores longer than a message may be.
        raise InputError("bad_input", "rows are encrypted under LINEAR, two to a slot")
    with Scorer.start(public) as scorer:
        return scorer.score(model, columns)


def _fetched(named: str, fetch: Callable[[str], bytes] | None) -> bytes:
    if fetch is None:
        raise InputError("no_input", "there is nothing to score here")
    data = fetch(named)
    if sha256_text(data) != named:
        raise InputError("bad_input", "these are not the bytes whose digest the job signs")
    return data
