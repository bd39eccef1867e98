"""How good scores are, as the label's owner reports it where it is shown them.

    metrics("logistic", scores, labels)["auc"]

Logistic: counts at probability 1/2, the summed log-loss, and the area under the ROC curve: the
share of pairs of a positive and a negative row that the scores put in order, equal ones counting
half (Hanley and McNeil, Radiology 143, 1982). Linear: the root mean square error, and the share of
the label's variance that is explained.
"""

import math
from typing import Any

import numpy as np

from federated.plan import Floats
from federated.tasks.newton import log_losses


def metrics(model: str, scores: Floats, labels: Floats) -> dict[str, Any]:
    """Returns plain numbers.

    Args:
        model: "logistic" or "linear".
        scores: float64[n], the linear predictor.
        labels: float64[n], two different values at least.
    """
    if model == "linear":
        errors, centred = scores - labels, labels - labels.mean()
        mean_square = math.fsum(errors**2) / len(errors)
        return {
            "rmse": math.sqrt(mean_square),
            "r2": 1.0 - mean_square * len(errors) / math.fsum(centred**2),
        }
    said, true = scores > 0, labels > 0
    correct = int((said == true).sum())
    return {
        "auc": area(scores, true),
        "accuracy": correct / len(labels),
        "correct": correct,
        "rows": len(labels),
        "log_loss": math.fsum(log_losses(scores, labels)),
    }


def area(scores: Floats, positive: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    """Returns the area under the ROC curve; both classes must occur."""
    values, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    # Rank of each distinct score, the mean of those of equal ones.
    ranks = before + (counts + 1) / 2
    positives = int(positive.sum())
    negatives = len(values[where]) - positives
    total = float(ranks[where][positive].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)
