"""A cohort in memory: tables, plan and the sum of every party's really encoded answers.

cohort = Cohort.of({"a": "x,y\n1,0\n", "b": "x,y\n2,1\n"})
result = cohort.run("statistics", columns=["x"])
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from federated.node.profile import measure
from federated.node.rows import Rows, prepare
from federated.node.table import ReadingSpec, Table, read_table
from federated.plan import Party, Plan, Question
from federated.preparation import Preparation
from federated.tasks import encode_answer, find_task, replay

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
HEART_COLUMNS = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
)
HEART_FEATURES = list(HEART_COLUMNS[:10])
HEART_SPEC = ReadingSpec(header=False, columns=HEART_COLUMNS, missing=("?",))
FLAMBY = {
    "drop": ["slope", "ca", "thal"],
    "complete_rows": True,
    "one_hot": {"cp": [1, 2, 3, 4], "restecg": [0, 1, 2]},
    "label": {"column": "num", "above": 0},
    "split": {"train": 0.66, "seed": 43, "stratify": True, "unless_class_at_most": 2},
}
_FOLDER = Path(__file__).parent.parent / "examples" / "hospitals"


@dataclass
class Cohort:
    tables: Mapping[str, Table]
    preparation: Preparation = field(default_factory=Preparation)
    asked: list[Question] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Mapping[str, str], preparation: object = None) -> "Cohort":
        tables = {
            name: read_table(text.encode(), ReadingSpec(), f"{name}.csv")
            for name, text in texts.items()
        }
        return cls(tables, Preparation.parse(preparation or {}))

    @classmethod
    def hospitals(cls, preparation: object = None) -> "Cohort":
        files = {name: _FOLDER / f"processed.{name}.data" for name in HOSPITALS}
        tables = {
            name: read_table(path.read_bytes(), HEART_SPEC, path.name)
            for name, path in files.items()
        }
        return cls(tables, Preparation.parse(FLAMBY if preparation is None else preparation))

    def rows(self) -> dict[str, Rows]:
        return {name: prepare(table, self.preparation) for name, table in self.tables.items()}

    def plan(self, task: str, **parameters: object) -> Plan:
        parties = tuple(
            Party.from_measurement(f"asset:{name}", name, measure(table, "sha256:0"))
            for name, table in self.tables.items()
        )
        found = find_task(task)
        return Plan(
            task, found.version, found.parse_parameters(parameters), parties, self.preparation
        )

    def run(self, task: str, **parameters: object) -> dict:
        plan, found, rows = self.plan(task, **parameters), find_task(task), self.rows()

        def total(question: Question) -> np.ndarray:
            self.asked.append(question)
            words = np.zeros(question.words, dtype=np.uint64)
            for one in rows.values():
                words += encode_answer(question.layout, found.answer(plan, question, one))
            return words

        return replay(found, plan, total)
