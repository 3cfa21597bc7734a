import json

import numpy as np

from coterie.measures.report import Report
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule


def test_a_report_survives_json() -> None:
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), rng.integers(4, size=30))
    report = evaluate(outputs, Partition.from_assignment([0, 1, 0, 1]), Rule(Gate(0.9)))
    assert Report.from_values(json.loads(json.dumps(report.to_values(), allow_nan=False))) == report


def test_a_report_of_an_earlier_version_has_no_balance() -> None:
    outputs = Outputs(np.eye(3), np.eye(3), np.arange(3))
    values = evaluate(outputs, Partition.from_assignment([0, 1, 0]), Rule(Gate(0.0))).to_values()
    del values["balance"]
    assert Report.from_values(values).balance is None
