"""Headroom: what is tried, what is chosen, and when the advice is to leave it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coterie.errors import PartitionError
from coterie.partition import Partition, PartitionRequest, confusion_counts, make_partition
from coterie.partition.embedding import LabelEmbedding
from coterie.partition.quality import router_accuracy
from coterie.routing.forecast import BasePredictions, Skill
from coterie.studies.headroom.advice import numbers_to_try, survey

Make = Callable[[str, int, Any], Partition]


def planted(strength: float, n_samples: int = 3000) -> BasePredictions:
    """Twelve classes in four groups of three that are confused; the stronger, the fewer errors there are."""
    rng = np.random.default_rng(0)
    label_N = rng.integers(12, size=n_samples)
    group_NC = (np.arange(12) // 3)[None, :] == (label_N // 3)[:, None]
    logits_NC = 1.5 * rng.normal(size=(n_samples, 12)) + strength * group_NC
    logits_NC[np.arange(n_samples), label_N] += strength / 2
    return BasePredictions(logits_NC, label_N)


def maker(answers: BasePredictions) -> Make:
    vectors_CD = LabelEmbedding.from_logits(answers.logits_NC).vectors_CD
    return lambda method, n_clusters, counts: make_partition(PartitionRequest(method, n_clusters), vectors_CD, counts)


def test_every_setting_is_tried_once_and_judged_by_its_own_partition() -> None:
    answers = planted(3.0)
    make = maker(answers)
    headroom = survey(answers, make, ("spectral", "average"), (2, 4, 6))
    assert [(s.n_clusters, s.method) for s in headroom.settings] == [
        (n, method) for n in (2, 4, 6) for method in ("spectral", "average")
    ]
    for setting in headroom.settings:
        partition = make(setting.method, setting.n_clusters, None)
        assert (setting.smallest, setting.largest) == (partition.size_S.min(), partition.size_S.max())
        assert setting.router_accuracy == pytest.approx(
            router_accuracy(answers.proba_NC, answers.label_N, partition), abs=1e-3
        )
        assert setting.gain_low <= setting.gain <= setting.gain_high
        # Composition can be right where the cluster is wrong; hard routing cannot, but the base keeps what it knows.
        assert answers.accuracy <= setting.ceiling_hard <= setting.ceiling_compose + 1e-9
        assert setting.restricted_accuracy >= answers.accuracy


def test_the_planted_groups_are_found_and_advised() -> None:
    answers = planted(3.0)
    headroom = survey(answers, maker(answers), ("spectral",), (2, 4, 6), skill=Skill(0.3, 0.05))
    assert headroom.advice.train
    assert headroom.advice.setting.n_clusters == 4
    assert headroom.partition.cluster_of_class_C.tolist() == (np.arange(12) // 3).tolist()
    assert "fewest specialists" in headroom.advice.reasons[-1]


def test_where_the_base_is_nearly_right_the_advice_is_dont() -> None:
    answers = planted(12.0)
    assert answers.accuracy > 0.99
    advice = survey(answers, maker(answers), ("spectral", "average"), (2, 4, 6)).advice
    assert not advice.train
    assert advice.setting.chance < 0.5
    assert f"errs on {100 * (1 - answers.accuracy):.1f}\N{NO-BREAK SPACE}%" in advice.reasons[1]


@pytest.mark.parametrize(("n_samples", "few"), [(200, True), (20_000, False)])
def test_samples_too_few_to_show_what_is_asked_are_said_to_be(n_samples: int, few: bool) -> None:
    answers = planted(3.0, n_samples)
    headroom = survey(answers, maker(answers), ("spectral",), (4,), skill=Skill(0.3, 0.05))
    setting = headroom.settings[0]
    said = f"By {n_samples:,} samples a gain below {100 * setting.least_shown:.1f} points cannot be told from chance"
    assert any(reason.startswith(said) for reason in headroom.advice.reasons) == few
    assert (setting.least_shown > headroom.asked) == few


def test_a_base_without_errors_leaves_nothing_to_win() -> None:
    label_N = np.arange(60) % 6
    answers = BasePredictions(10.0 * np.eye(6)[label_N] + np.random.default_rng(0).normal(size=(60, 6)), label_N)
    headroom = survey(answers, maker(answers), ("average",), (2, 3))
    assert not headroom.advice.train
    assert headroom.advice.setting.gain == 0
    assert headroom.advice.setting.routed_for_gain is None


def test_more_is_asked_less_is_likely() -> None:
    answers = planted(3.0)
    modest, bold = (
        survey(answers, maker(answers), ("average",), (4,), asked=asked, skill=Skill(0.3, 0.1)).settings[0]
        for asked in (0.005, 0.06)
    )
    assert modest.chance > bold.chance
    assert modest.routed_for_gain is not None
    assert modest.gain == bold.gain


def test_confusion_is_not_judged_on_the_samples_it_groups_by() -> None:
    """On noise, clusters made of the judged samples' own errors would seem to hold more of them than they do."""
    rng = np.random.default_rng(0)
    answers = BasePredictions(rng.normal(size=(300, 20)), rng.integers(20, size=300))
    setting = survey(answers, maker(answers), ("confusion",), (5,)).settings[0]
    counts_CC = confusion_counts(answers.proba_NC, answers.label_N)
    seen = router_accuracy(answers.proba_NC, answers.label_N, maker(answers)("confusion", 5, counts_CC))
    assert setting.router_accuracy < seen


def test_one_class_clusters_cost_nothing() -> None:
    answers = planted(3.0)
    setting = survey(answers, maker(answers), ("average",), (11,)).settings[0]
    assert setting.n_specialists == 1
    assert setting.trained_share == pytest.approx(2 / 12, abs=0.03)


def test_the_values_are_json() -> None:
    answers = planted(3.0, 200)
    values = survey(answers, maker(answers), ("average",), (2, 4)).to_values()
    again = json.loads(json.dumps(values, allow_nan=False))
    assert len(again["cluster_of_class"]) == 12
    assert again["advice"]["setting"] in again["settings"]


def test_the_grid_of_numbers() -> None:
    assert numbers_to_try(3) == (2,)
    assert numbers_to_try(6) == (2, 3)
    assert numbers_to_try(100) == tuple(sorted(set(numbers_to_try(100))))
    assert (numbers_to_try(100)[0], numbers_to_try(100)[-1], numbers_to_try(5000)[-1]) == (2, 50, 50)


def test_nothing_to_try() -> None:
    answers = planted(3.0, 50)
    with pytest.raises(PartitionError, match="needs a method and a number of clusters"):
        survey(answers, maker(answers), (), (2,))
