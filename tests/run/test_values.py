from dataclasses import replace

import numpy as np
import pytest

from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.fitting import Combination
from coterie.routing.gate import N_FEATURES, Budget, GainModel, Gate
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate
from coterie.routing.tune import Tuning
from coterie.run.manifest import GateRecord, Manifest
from coterie.run.values import record_of, rule_of

LEARNED = Gate(0.1, "learned", GainModel(0.5, (0.25,) * N_FEATURES))
RULES = {
    "the paper's": Rule(Gate(1.5)),
    "routes nothing": Rule(Gate(np.inf)),
    "all of it": Rule(LEARNED, Combiner("arithmetic", (0.2, 0.7), 2, temperature=0.9), Temperatures(1.5, (2.0, 3.0))),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_manifest_gives_the_rule_that_was_put_into_it(rule: Rule) -> None:
    tried = Candidate(Combination("average", 2), "margin", accuracy=0.6, gain=0.01, passes=1.5, routed=0.5)
    record = record_of(Tuning(rule, tried, (tried,), 0.6, "A note.", Budget(passes=1.5)))
    stored = GateRecord.model_validate_json(record.model_dump_json())
    assert rule_of(Manifest(settings={}, gate=stored)) == rule
    assert stored.limits == {"passes": 1.5}
    assert stored.tried[0].combiner == "average, top 2"


def test_a_manifest_of_an_earlier_version_has_the_papers_rule() -> None:
    early = GateRecord.model_validate({"score": "entropy", "combiner": "hard", "threshold": 0.7})
    assert rule_of(Manifest(settings={}, gate=early)) == replace(RULES["the paper's"], gate=Gate(0.7))
