from dataclasses import replace

import numpy as np
import pytest

from coterie.errors import ArtifactError
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.fitting import Combination
from coterie.routing.gate import N_FEATURES, Budget, GainModel, Gate
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate
from coterie.routing.tune import Tuning, TuningRequest
from coterie.run.manifest import GateRecord, Manifest
from coterie.run.values import record_of, rule_of, tuning_of

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


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_manifest_gives_the_tuning_that_was_put_into_it(rule: Rule) -> None:
    everything = TuningRequest(tops=(1, 2, 12)).combinations(Partition.from_assignment(range(12)))
    rows = tuple(Candidate(each, "margin", accuracy=0.6, gain=0.01, passes=1.5, routed=0.5) for each in everything)
    record = record_of(Tuning(rule, rows[0], rows, 0.6, "A note.", Budget(routed=0.25)))
    found = tuning_of(Manifest(settings={}, gate=GateRecord.model_validate_json(record.model_dump_json())))
    assert (found.rule, found.candidates, found.chosen) == (rule, rows, None)
    assert (found.accuracy, found.note, found.budget) == (0.6, "A note.", Budget(routed=0.25))


def test_a_manifest_of_an_early_version_has_a_rule_without_a_table() -> None:
    early = GateRecord.model_validate({"score": "entropy", "combiner": "hard", "threshold": None})
    found = tuning_of(Manifest(settings={}, gate=early))
    assert found.rule == Rule(Gate(np.inf))
    assert (found.candidates, found.note, found.budget) == ((), "", Budget())
    assert np.isnan(found.accuracy)
    assert record_of(found) == early


def test_an_unknown_combiner_in_the_table_is_named() -> None:
    row = {"combiner": "blend, moon", "score": "margin", "accuracy": 0.5, "gain": 0.0, "passes": 1.0, "routed": 0.0}
    gate = GateRecord.model_validate({"score": "entropy", "combiner": "hard", "threshold": 0.7, "tried": [row]})
    with pytest.raises(ArtifactError, match="blend, moon"):
        tuning_of(Manifest(settings={}, gate=gate))


def test_a_manifest_of_an_earlier_version_has_the_papers_rule() -> None:
    early = GateRecord.model_validate({"score": "entropy", "combiner": "hard", "threshold": 0.7})
    assert rule_of(Manifest(settings={}, gate=early)) == replace(RULES["the paper's"], gate=Gate(0.7))
