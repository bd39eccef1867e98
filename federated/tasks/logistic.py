"""Task `logistic`: a logistic regression over all parties' rows, equal to the pooled fit.

Rounds: "moments" (rows, positives, column sums) and "spread" (centred squares) give the pooled
mean and sample deviation (n - 1); "newton" asks gradient, Hessian and loss at one model point, as
often as damped Newton steps need (Nocedal and Wright, "Numerical Optimization", chapter 3); "score"
counts right and wrong answers. It minimises the summed log-loss + ridge / 2 * |beta|^2 on the
standardised features, with the intercept free; without ridge the plain log-loss.

Every side derives the layouts from the data cards and the question's public numbers. A node
refuses model points chosen to single out rows: |coefficients| above `LARGEST_COEFFICIENT`, and
points at which a few of its rows carry all residuals or weights (`FEWEST_EFFECTIVE_ROWS`).

Not decided here: who may ask (the guard), whether the row choice was agreed (the preparation).
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from federated.errors import TaskError, suggestion
from federated.plan import Aggregate, Floats, Plan, Question
from federated.tasks import logistic_layout as layout
from federated.tasks import newton
from federated.tasks import parameters as read
from federated.tasks.logistic_layout import ModelPoint
from federated.tasks.question import Conversation, PreparedRows, expect, in_order, real, whole
from federated.tasks.statistics import centred_squares, pooled_means

MOST_STEPS = 30
MOST_HALVINGS = 10
MOST_POINTS = 60
"""Model points that one job may ask about. An honest fit takes 6 to 15; each answered point is an
exact fact about the rows, so a node stops here too."""

GRADIENT_TOLERANCE = 1e-9
"""Largest gradient entry at the end, for each row."""

STEP_TOLERANCE = 1e-8
"""Largest entry of the next Newton step at the end. A small gradient alone is no proof: under
separation it vanishes while the steps stay as long as they were."""

LEAST_POSSIBLE_LOSS = math.log(2) + 0.5
"""No unpenalised optimum has a smaller summed log-loss, so a smaller one anywhere proves that there
is none. Where an optimum exists, the classes overlap (Albert and Anderson, "On the existence of
maximum likelihood estimates in logistic regression models", Biometrika 71, 1984), so at it some row
has its residual at 1/2 or more and costs log 2 or more. The free intercept makes residuals sum to
zero, so the other class has 1/2 or more too, and a row's loss is never less than its residual."""

CONSTANT = 2.0**-44
"""Deviation below which a column counts as constant, as a share of its largest value. A true
constant leaves about 2^-53 from rounding the mean."""

FEWEST_EFFECTIVE_ROWS = 5.0
"""Least effective number of rows (Kish) that must carry a node's residuals and its weights; a
quarter of its training rows where it has fewer than twenty.

Measured on the honest path over the four hospitals: without ridge it never falls below 17.3 (of
Switzerland's 30 training rows, which hold one class), with ridge 1 not below 17.4; Long Beach has
41.5 of 85, Hungary 84.5 of 172, Cleveland 116.5 of 199. In simulated data of weak to ordinary
signal with ridge 1 the least share was a quarter of a node's rows. Completely separated classes
lead to 1 to 6, whatever the number of rows."""

Step = Generator[Question, Aggregate, "Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """The penalised objective at one point, from one aggregate; `number` counts points asked."""

    number: int
    theta: Floats
    gradient: Floats
    hessian: Floats
    loss: float
    plain_loss: float


class Logistic:
    """The task `logistic`."""

    name: ClassVar[str] = "logistic"
    version: ClassVar[int] = 1
    encrypted: ClassVar[bool] = False
    most_questions: ClassVar[int] = MOST_POINTS + 3
    steps: ClassVar[tuple[tuple[str, int], ...]] = (
        ("moments", 1),
        ("spread", 1),
        ("newton", MOST_POINTS),
        ("score", 1),
    )

    def parse_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns {"columns": […], "ridge": "1" or null}.

        Raises:
            TaskError: unknown_parameter or bad_parameter.
        """
        read.known_keys(self.name, given, ("columns", "ridge"))
        return {"columns": read.columns(given), "ridge": read.ridge(given)}

    def check_plan(self, plan: Plan) -> None:
        """Checks cohort, columns and label against the data cards.

        Raises:
            TaskError: one_party, unknown_column, not_numeric, or bad_parameter (no label, the
                label or a dropped column among the columns).
        """
        read.cohort(plan)
        preparation, columns = plan.preparation, plan.parameters["columns"]
        if preparation.label is None:
            raise TaskError("bad_parameter", "a regression needs a label in the preparation")
        plan.numeric(preparation.label.column)
        for column in columns:
            if column == preparation.label.column:
                raise TaskError("bad_parameter", f"column {column!r} is the label itself")
            if column in preparation.drop:
                kept = preparation.kept(tuple(plan.cohort[0].columns))
                raise TaskError(
                    "unknown_column",
                    f"the preparation drops column {column!r}{suggestion(column, kept)}",
                )
            if preparation.levels(column) is None:
                plan.numeric(column)
            else:
                plan.facts(column)

    def question(self, plan: Plan, step: str, parameters: Mapping[str, Any]) -> Question:
        """Builds the question of a step; see `logistic_layout`.

        Raises:
            TaskError: unknown_step, bad_parameter, isolating_parameters or overflow.
        """
        return layout.question(plan, step, parameters)

    def row_choices(self, plan: Plan) -> tuple[str, ...]:
        """Returns which rows the answers cover."""
        return ("train",) if plan.preparation.split is None else ("train", "test")

    def conduct(self, plan: Plan) -> Conversation:
        """Asks the rounds and returns the result (see the module's text).

        Raises:
            TaskError: no_rows, one_class, constant_column, collinear, separation,
                not_converged or overflow.
        """
        self.check_plan(plan)
        scaling, tested = yield from _standardise(plan)
        fit, steps = yield from _fit(plan, scaling)
        point = scaling.at(fit.theta)
        counted = yield layout.question(plan, "score", point.to_json())
        which = "test" if tested else "train"
        return _result(plan, point, steps, _metrics(counted, which))

    def check_order(self, earlier: Sequence[Question], question: Question) -> None:
        """Checks a question against the earlier ones of its job.

        The scaling must not change between model points, and "score" is asked at the last of them:
        counts at a point of the operator's choice would be a cut through the rows.

        Raises:
            TaskError: out_of_order.
        """
        in_order(self, earlier, question)
        points = [asked.parameters for asked in earlier if asked.step == "newton"]
        if question.step == "newton" and points:
            same = all(points[0][key] == question.parameters[key] for key in ("mean", "sd", "rows"))
        else:
            same = question.step != "score" or (bool(points) and points[-1] == question.parameters)
        if not same:
            raise TaskError("out_of_order", f"step {question.step!r} is not at this fit's point")

    def local_notes(self, plan: Plan, rows: PreparedRows) -> tuple[str, ...]:
        """Returns what is unusual in one node's training rows, for that node's own log only.

        One class or a constant column at one party is no fault: the pooled fit uses those rows as
        any others. It is a fact about one party that the aggregate hides, so it is never sent.

        Raises:
            RowsError: As `answer`.
        """
        features = layout.features(plan)
        train, labels = rows.matrix(features, "train"), rows.labels("train")
        if not len(train):
            return ("no training rows here; this node contributes zeros",)
        notes = []
        if labels.min() == labels.max():
            notes.append("the training rows here hold one class")
        fixed = np.flatnonzero(np.ptp(train, axis=0) == 0)
        notes += [f"column {features[at]!r} is constant in the training rows here" for at in fixed]
        return tuple(notes)

    def answer(self, plan: Plan, question: Question, rows: PreparedRows) -> dict[str, Floats]:
        """Returns one node's part of a step.

        A node refuses (isolating_parameters) a model point at which fewer than
        `FEWEST_EFFECTIVE_ROWS` (5; see there for what honest fits show) of its training rows
        effectively carry its residuals or weights.

        Raises:
            TaskError: As `question`; layout_mismatch; isolating_parameters.
        """
        expect(self, plan, question)
        features = layout.features(plan)
        train, labels = rows.matrix(features, "train"), rows.labels("train")
        if question.step == "moments":
            units = layout.units(plan)
            return {
                "rows": np.array([float(len(train)), float(rows.count("test"))]),
                "positives": np.array([labels.sum()]),
                "sum": _column_sums(train / units),
            }
        if question.step == "spread":
            units = layout.units(plan)
            centred = train / units - np.array(question.parameters["mean"]) / units
            return {
                "deviation": _column_sums(centred),
                "square": _column_sums(centred * centred),
            }
        point = ModelPoint.from_json(plan, question.parameters)
        scaled = point.scale(train)
        _refuse_isolation(scaled, labels, point.theta)
        if question.step == "newton":
            local = newton.local_step(scaled, labels, point.theta)
            return {
                "gradient": local.gradient,
                "hessian": local.hessian,
                "loss": np.array([local.loss]),
            }
        tests = (point.scale(rows.matrix(features, "test")), rows.labels("test"))
        return _score(point.theta, (scaled, labels), tests)


def _column_sums(values: Floats) -> Floats:
    """Returns the exactly rounded sums of the columns of float64[n, d]."""
    return np.array([math.fsum(column) for column in values.T])


def _refuse_isolation(scaled: Floats, labels: Floats, theta: Floats) -> None:
    """Raises isolating_parameters where a few rows carry the answer (see `answer`)."""
    if not len(scaled):
        return
    chances = newton.probabilities(scaled @ theta[1:] + theta[0])
    least = min(FEWEST_EFFECTIVE_ROWS, len(scaled) / 4)
    for weights in (np.abs(chances - labels), chances * (1.0 - chances)):
        if newton.effective_rows(weights) < least:
            raise TaskError(
                "isolating_parameters",
                "at this model point a few rows would carry the whole answer, so it is refused; "
                "an honest fit comes here only when the columns tell the classes apart: give a "
                "ridge, for example 1",
            )


def _score(
    theta: Floats, train: tuple[Floats, Floats], test: tuple[Floats, Floats]
) -> dict[str, Floats]:
    """Counts answers (tp, tn, fp, fn) and sums log-losses on both parts."""
    counts, losses = [], []
    for scaled, labels in (train, test):
        eta = scaled @ theta[1:] + theta[0]
        said, true = eta > 0, labels > 0
        counts += [said & true, ~said & ~true, said & ~true, ~said & true]
        losses.append(math.fsum(newton.log_losses(eta, labels)))
    return {
        "answers": np.array([float(which.sum()) for which in counts]),
        "losses": np.array(losses),
    }


def _standardise(
    plan: Plan,
) -> Generator[Question, Aggregate, tuple[ModelPoint, bool]]:
    """Asks both moment rounds; returns the scaling at theta = 0, and whether test rows exist."""
    features, units = layout.features(plan), layout.units(plan)
    moments = yield layout.question(plan, "moments", {})
    (rows, test_rows), (positives,) = whole(moments, "rows"), whole(moments, "positives")
    if rows < 2:
        raise TaskError(
            "no_rows",
            f"the preparation leaves {rows} training rows over all parties; drop columns with "
            "many missing values, or list fewer conditions",
        )
    if not 0 < positives < rows:
        label = plan.preparation.label
        raise TaskError(
            "one_class",
            f"all {rows} training rows are of one class: no row is on the other side of the "
            f"limit for label {label.column if label else ''!r}; change `above`",
        )
    means = pooled_means(real(moments, "sum"), [rows] * len(features), units)
    spread = yield layout.question(plan, "spread", {"mean": means})
    squares, deviations = real(spread, "square"), real(spread, "deviation")
    inner = np.array(
        [
            centred_squares(square, deviation, rows)
            for square, deviation in zip(squares, deviations, strict=True)
        ]
    )
    sds = np.sqrt(inner / (rows - 1))
    constant = [name for name, sd in zip(features, sds, strict=True) if sd < CONSTANT]
    if constant:
        raise TaskError(
            "constant_column",
            f"constant over all parties' training rows: {', '.join(constant)}; leave out the "
            "column, or the level",
        )
    zero = np.zeros(len(features) + 1)
    return ModelPoint(np.array(means), sds * units, rows, zero), test_rows > 0


def _evaluate(plan: Plan, scaling: ModelPoint, theta: Floats, number: int) -> Step:
    """Asks one Newton round, the given one, and adds the penalty."""
    if number > MOST_POINTS:
        raise TaskError("not_converged", f"no optimum after {MOST_POINTS} model points")
    try:
        aggregate = yield layout.question(plan, "newton", scaling.at(theta).to_json())
    except TaskError as error:
        # A fit that runs away concentrates on the few rows at the border, and the nodes' own
        # refusal comes before the proof by the loss.
        if error.reason == "isolating_parameters" and plan.parameters["ridge"] is None:
            raise newton.separation() from error
        raise
    ridge = float(plan.parameters["ridge"] or 0)
    penalty = np.full(len(theta), ridge)
    penalty[0] = 0.0
    loss = float(real(aggregate, "loss")[0])
    return Evaluation(
        number=number,
        theta=theta,
        gradient=real(aggregate, "gradient") + penalty * theta,
        hessian=newton.unpack(real(aggregate, "hessian"), len(theta)) + np.diag(penalty),
        loss=loss + 0.5 * ridge * float(theta[1:] @ theta[1:]),
        plain_loss=loss,
    )


def _fit(plan: Plan, scaling: ModelPoint) -> Generator[Question, Aggregate, tuple[Evaluation, int]]:
    """Runs damped Newton steps to the optimum; returns it and the number of steps taken."""
    free = plan.parameters["ridge"] is None
    here = yield from _evaluate(plan, scaling, scaling.theta, 1)
    if free:
        features = layout.features(plan)
        dependent = newton.collinear_features(here.hessian, features)
        if dependent:
            raise TaskError(
                "collinear",
                f"these columns determine each other: {', '.join(dependent)}; leave one out, or "
                "give a ridge, for example 1",
            )
    for steps in range(MOST_STEPS):
        if free and here.plain_loss < LEAST_POSSIBLE_LOSS:
            raise newton.separation()
        direction = newton.newton_direction(here.gradient, here.hessian)
        if _converged(here, direction, scaling.rows):
            return here, steps
        here = yield from _descend(plan, scaling, here, direction)
    if free:
        raise newton.separation()
    raise TaskError("not_converged", f"no optimum after {MOST_STEPS} steps; give a larger ridge")


def _converged(here: Evaluation, direction: Floats, rows: int) -> bool:
    """Says whether both the gradient and the next step have vanished."""
    gradient, step = np.abs(here.gradient).max(), np.abs(direction).max()
    reach = 1.0 + np.abs(here.theta).max()
    return bool(gradient <= GRADIENT_TOLERANCE * rows and step <= STEP_TOLERANCE * reach)


def _descend(plan: Plan, scaling: ModelPoint, here: Evaluation, direction: Floats) -> Step:
    """Takes a Newton step, halved until the objective does not rise."""
    share = 1.0
    for tried in range(1, MOST_HALVINGS + 2):
        theta = here.theta - share * direction
        if np.abs(theta).max() > layout.LARGEST_COEFFICIENT:
            raise newton.separation()
        there = yield from _evaluate(plan, scaling, theta, here.number + tried)
        # Near the optimum the objective is flat to its last digits; the slack lets a step pass.
        if there.loss <= here.loss + 1e-12 * abs(here.loss):
            return there
        share /= 2
    raise TaskError("not_converged", "no shorter step improves the fit; give a larger ridge")


def _metrics(counted: Aggregate, which: str) -> dict[str, Any]:
    """Turns summed counts into the metrics of the test rows, or of the training rows."""
    answers, losses = whole(counted, "answers"), real(counted, "losses")
    at = 4 if which == "test" else 0
    right_yes, right_no, wrong_yes, wrong_no = answers[at : at + 4]
    rows, correct = sum(answers[at : at + 4]), right_yes + right_no
    return {
        "accuracy": correct / rows if rows else None,
        "correct": correct,
        "rows": rows,
        "true_positive": right_yes,
        "true_negative": right_no,
        "false_positive": wrong_yes,
        "false_negative": wrong_no,
        "log_loss": float(losses[at // 4]),
        "metrics_rows": which,
        "train_correct": answers[0] + answers[1],
    }


def _result(plan: Plan, point: ModelPoint, steps: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the result in the form that the scenario and the buyer read."""
    features, beta = layout.features(plan), point.theta[1:]
    original = beta / point.sd
    intercept = float(point.theta[0] - original @ point.mean)
    columns = range(len(features))
    return {
        "coefficients": {features[at]: float(beta[at]) for at in columns},
        "intercept": float(point.theta[0]),
        "scaling": {
            features[at]: {"mean": float(point.mean[at]), "sd": float(point.sd[at])}
            for at in columns
        },
        "coefficients_original": {
            "intercept": intercept,
            **{features[at]: float(original[at]) for at in columns},
        },
        "rows": point.rows,
        "iterations": steps,
        "metrics": metrics,
    }
