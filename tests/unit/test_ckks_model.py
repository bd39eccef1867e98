import json
import math

import numpy as np
import pytest

from privacy.ckks import plan as ckks_plan
from privacy.ckks.batches import Packing
from privacy.ckks.encrypted import Answer, EncryptedColumns
from privacy.ckks.model import LinearModel, Link, Model, SquareNetwork, model_from_json
from privacy.ckks.parameters import LINEAR, SIGMOID, SQUARE, SUMS, Parameters
from privacy.ckks.plan import Plan, plan_scores
from privacy.errors import ColumnsError, ModelError, ParametersError


def plan(
    model: Model,
    bounds: tuple[float, ...],
    parameters: Parameters,
    *,
    probabilities: bool,
    packing: Packing = Packing.SINGLE,
) -> Plan:
    columns = EncryptedColumns(
        parameters, "k", rows=1, packing=packing, bounds=bounds, bodies=(b"body",) * len(bounds)
    )
    return plan_scores(columns=columns, model=model, probabilities=probabilities)


LOGISTIC = LinearModel((0.1, -2.0, 1e-7), 0.25, Link.LOGISTIC)
NETWORK = SquareNetwork(((1.0, 2.0), (0.5, -0.5)), (0.0, 1.0), (2.0, -1.0), 3.0)


@pytest.mark.parametrize("model", [LOGISTIC, NETWORK])
def test_json_goes_there_and_back_and_holds_no_float(model: LinearModel | SquareNetwork):
    def refuse(text: str) -> float:
        raise AssertionError(text)

    text = json.dumps(model.to_json())
    assert model_from_json(json.loads(text, parse_float=refuse)) == model


@pytest.mark.parametrize(
    "number",
    [
        0.25,
        "0.250",
        "+0.25",
        " 0.25",
        "1/4",
        "nan",
        "inf",
        "-inf",
        "",
        "0,25",
        "0" * 40,
        None,
        "１.5",
    ],
)
def test_a_number_in_another_form_is_refused(number: object):
    with pytest.raises(ModelError):
        model_from_json(LOGISTIC.to_json() | {"intercept": number})


def test_its_twin_is_accepted():
    assert model_from_json(LOGISTIC.to_json() | {"intercept": "1e-07"}).intercept == 1e-7


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "rongshu/linear-model/v2"},
        LOGISTIC.to_json() | {"link": "probit"},
        LOGISTIC.to_json() | {"more": "1.0"},
        LOGISTIC.to_json() | {"weights": []},
        LOGISTIC.to_json() | {"weights": ["0.0", "0.0"]},
        LOGISTIC.to_json() | {"weights": "0.5"},
        LOGISTIC.to_json() | {"weights": ["0.5"] * 5000},
        NETWORK.to_json() | {"hidden": []},
        NETWORK.to_json() | {"hidden": [["1.0", "2.0"]]},
        NETWORK.to_json() | {"hidden": [["1.0", "2.0"], ["1.0"]]},
        NETWORK.to_json() | {"output": ["0.0", "0.0"]},
        NETWORK.to_json() | {"offsets": ["0.0"]},
    ],
)
def test_a_model_of_another_form_is_refused(value: object):
    with pytest.raises(ModelError):
        model_from_json(value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1, "1.0"])
def test_a_number_that_is_not_finite_is_refused_with_its_position(bad: object):
    with pytest.raises(ModelError, match="number 1"):
        LinearModel((0.5, bad), 0.0, Link.IDENTITY)


def test_predictions_in_the_clear_are_the_formulas():
    rows = np.array([[1.0, 2.0]])
    linear = LinearModel((0.5, -1.0), 0.25, Link.IDENTITY)
    assert linear.predict(rows).tolist() == [0.5 - 2.0 + 0.25]
    # 2 (1 + 4)² - (0.5 - 1 + 1)² + 3
    assert NETWORK.predict(rows).tolist() == [2 * 25 - 0.25 + 3]


def test_a_plan_keeps_every_score_in_the_unit_range():
    bounds = (10.0, 0.5, 1e6)
    made = plan(LOGISTIC, bounds, LINEAR, probabilities=False)
    reach = 1.0 + 1.0 + 0.1 + 0.25
    assert np.isclose(np.abs(made.weights).sum() + abs(made.offsets).sum(), reach / 4)
    assert made.factor == 4.0
    net = plan(NETWORK, (1.0, 2.0), SQUARE, probabilities=False)
    spans = np.abs(net.weights).sum(axis=1) + np.abs(net.offsets)
    assert 0.5 < (spans**2).sum() + abs(net.details["intercept"]) <= 1


def magnitudes_from(factors: list[float], bounds: list[tuple[float, ...]]) -> np.ndarray:
    """What whoever sees bounds and factors of several uses makes of them: weights and intercept."""
    return np.linalg.solve(np.array([[*each, 1.0] for each in bounds]), np.array(factors))


def test_the_factors_of_many_uses_do_not_give_the_weights_and_exact_bounds_would(
    monkeypatch: pytest.MonkeyPatch,
):
    bounds = [(1.0, 2.0, 4e6), (8.0, 1.0, 1e6), (64.0, 4.0, 2e6), (2.0, 16.0, 8e6)]
    truth = np.abs([*LOGISTIC.weights, LOGISTIC.intercept])
    factors = [plan(LOGISTIC, each, LINEAR, probabilities=False).factor for each in bounds]
    assert all(math.frexp(each)[0] == 0.5 for each in factors)
    assert np.abs(magnitudes_from(factors, bounds) - truth).max() > 0.1
    # The twin: the bound of a score as it is.
    monkeypatch.setattr(ckks_plan, "_rounded", lambda reach: reach)
    exact = [plan(LOGISTIC, each, LINEAR, probabilities=False).factor for each in bounds]
    assert np.allclose(magnitudes_from(exact, bounds), truth)


@pytest.mark.parametrize(("reach", "bound"), [(1.0, 1.0), (1.0001, 2.0), (4.0, 4.0), (0.3, 0.5)])
def test_a_factor_is_the_smallest_power_of_two(reach: float, bound: float):
    model = LinearModel((reach,), 0.0, Link.IDENTITY)
    assert plan(model, (1.0,), LINEAR, probabilities=False).factor == bound


def test_a_unit_without_weights_is_a_constant_and_one_without_output_is_dropped():
    network = SquareNetwork(
        ((0.0, 0.0), (1.0, 1.0), (9.0, 9.0)), (3.0, 0.0, 1.0), (2.0, 1.0, 0.0), 1.0
    )
    made = plan(network, (1.0, 1.0), SQUARE, probabilities=False)
    assert made.weights.shape == (1, 2)
    assert made.details["intercept"] * made.factor == pytest.approx(1 + 2 * 9)


def test_a_model_of_other_columns_is_refused():
    with pytest.raises(ColumnsError, match="3 columns"):
        plan(LOGISTIC, (1.0, 1.0), LINEAR, probabilities=False)


def test_a_network_needs_a_deeper_set_than_a_linear_model():
    assert plan(NETWORK, (1.0, 1.0), SQUARE, probabilities=False).answer is Answer.SCORE
    with pytest.raises(ParametersError):
        plan(NETWORK, (1.0, 1.0), LINEAR, probabilities=False)


def test_probabilities_are_refused_where_the_predictor_may_leave_the_range():
    bounds = (1.0, 1.0, 1.0)
    made = plan(LOGISTIC, bounds, SIGMOID, probabilities=True)
    assert made.answer is Answer.PROBABILITY
    with pytest.raises(ModelError, match="predictor may leave"):
        plan(LOGISTIC, (1.0, 4.0, 1.0), SIGMOID, probabilities=True)


def test_probabilities_need_a_logistic_model_and_the_deepest_set():
    linear = LinearModel((1.0,), 0.0, Link.IDENTITY)
    logistic = LinearModel((1.0,), 0.0, Link.LOGISTIC)
    plan(logistic, (1.0,), SIGMOID, probabilities=True)
    with pytest.raises(ModelError):
        plan(linear, (1.0,), SIGMOID, probabilities=True)
    with pytest.raises(ModelError):
        plan(NETWORK, (1.0, 1.0), SIGMOID, probabilities=True)
    with pytest.raises(ParametersError):
        plan(logistic, (1.0,), SQUARE, probabilities=True)


def test_scores_without_a_finite_bound_are_refused():
    with pytest.raises(ModelError):
        plan(LinearModel((1e90,), 0.0, Link.IDENTITY), (1e90,), LINEAR, probabilities=False)


def test_paired_rows_are_for_linear_predictors_alone():
    plan(LOGISTIC, (1.0, 1.0, 1.0), SIGMOID, probabilities=False, packing=Packing.PAIRED)
    with pytest.raises(ColumnsError, match="paired"):
        plan(LOGISTIC, (1.0, 1.0, 1.0), SIGMOID, probabilities=True, packing=Packing.PAIRED)
    with pytest.raises(ColumnsError, match="paired"):
        plan(NETWORK, (1.0, 1.0), SQUARE, probabilities=False, packing=Packing.PAIRED)


def test_columns_for_sums_are_not_scored():
    for parameters, packing in ((SUMS, Packing.SINGLE), (LINEAR, Packing.MOMENTS)):
        with pytest.raises(ParametersError, match="sums"):
            plan(LOGISTIC, (1.0, 1.0, 1.0), parameters, probabilities=False, packing=packing)
