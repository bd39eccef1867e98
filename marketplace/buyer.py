"""A researcher who has rows scored by a provider's model, and sees nothing of the model.

buyer = Buyer(home)
job = buyer.score(rows, ("age", "chol"), agreement=agreement, purpose="triage", name="ward 3")
buyer.result(job)        # {"rows": 30, "scores": [0.12, …]}, once the job was released
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from federated.tasks.scoring import ScoringTask
from marketplace.client import ClientError, Researcher, problem_of
from marketplace.scoring import Rows, seal


class Buyer(Researcher):
    """Hands encrypted rows in, and asks for their scores."""

    def score(
        self,
        rows: Rows,
        features: Sequence[str],
        *,
        agreement: Mapping[str, Any],
        purpose: str,
        name: str,
        answer: str = "predictor",
    ) -> str:
        """Encrypt rows here, hand them in, and submit the job that scores them; return its id.

        Args:
            rows: float64[rows, features].
            features: names of the columns, as the model has them.
            agreement: on the model, as the service shows it.
            purpose: one that it permits.
            name: for people.
            answer: `predictor`, or `probability` of a logistic model.

        Raises:
            ScoresError: the rows cannot be encrypted.
            TaskError: no parameters of a job can be made of this.
            ClientError: the service refused.
        """
        sealed = seal(self.home.folder, rows, features, answer)
        for each in sealed.inputs:
            self.hand_in(each)
        return self.submit_job(
            name=name,
            task=ScoringTask.name,
            parameters=sealed.parameters,
            preparation=agreement["preparation"],
            purpose=purpose,
            agreements={agreement["asset"]: agreement["id"]},
        )

    def hand_in(self, content: bytes) -> str:
        """Hand in bytes that a job to come names; return their digest, as the service has it.

        Raises:
            ClientError: it refused, or cannot be reached.
        """
        headers = {"Content-Type": "application/octet-stream"}
        try:
            answer = self.http.post("/v1/inputs", content=content, headers=headers)
        except httpx.HTTPError as error:
            raise ClientError(f"{self.http.base_url} cannot be reached: {error}") from error
        if answer.is_error:
            raise problem_of(answer)
        return str(answer.json()["digest"])
