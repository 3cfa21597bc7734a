import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from coterie.errors import InputError
from coterie.measures.metrics import score
from coterie.partition import Partition
from coterie.routing import fitting
from coterie.routing.calibration import temperature
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, Routing, evaluate
from coterie.routing.fitting import PAPER, Combination
from coterie.routing.gate import Budget, sweep_thresholds
from coterie.routing.rule import Rule
from coterie.routing.tune import COMBINERS, GATES, TuningRequest, tune

PARTITION = Partition.from_assignment([0, 0, 0, 1, 1, 1, 2, 2, 3])
AUTO = TuningRequest()
PAPERS = TuningRequest(combiners=("hard",), scores=("entropy",), tops=(1,))


def make_outputs(n: int, seed: int = 0, skill: tuple[float, ...] = (1.5, 1.5, 1.5), noise: float = 1.0) -> Outputs:
    """A base whose errors stay inside clusters, and specialists that see more, each by its ``skill``; with none, one
    answers at random.
    """
    rng = np.random.default_rng(seed)
    label_N = rng.integers(9, size=n)
    near_CC = np.eye(9) + 1.5 * (PARTITION.member_SC.T @ PARTITION.member_SC)
    base_NC = 1.5 * near_CC[label_N] + noise * rng.normal(size=(n, 9))
    skill_M = np.repeat((*skill, 1.0), PARTITION.size_S)
    own_NM = skill_M * np.eye(9)[label_N][:, PARTITION.packed_class_M]
    return Outputs(base_NC, 2 * own_NM + rng.normal(size=(n, 9)), label_N)


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    return make_outputs(3000)


def gain_of(rule: Rule, outputs: Outputs) -> float:
    return evaluate(outputs, PARTITION, rule).gain


def test_alone_the_papers_rule_is_the_papers_rule(outputs: Outputs) -> None:
    tuning = tune(outputs, PARTITION, PAPERS)
    routing = Routing.of(outputs, PARTITION, tuning.rule)
    curve = sweep_thresholds(routing.score_N, *routing.right(outputs.label_N))
    assert tuning.rule == Rule(tuning.rule.gate)
    assert tuning.rule.gate.score == "entropy"
    assert tuning.rule.gate.threshold == curve.threshold_T[curve.best]
    assert len(tuning.candidates) == 1
    assert tuning.accuracy <= curve.accuracy_T.max()


def test_with_samples_enough_the_choice_beats_the_papers_rule_on_new_samples(outputs: Outputs) -> None:
    fresh = make_outputs(20_000, seed=1)
    tuning = tune(outputs, PARTITION, AUTO)
    assert tuning.chosen.combination != PAPER
    assert gain_of(tuning.rule, fresh) > gain_of(tune(outputs, PARTITION, PAPERS).rule, fresh) + 0.003
    # What is said of validation holds elsewhere.
    assert tuning.chosen.gain == pytest.approx(gain_of(tuning.rule, fresh), abs=0.02)
    assert "the plain blend" in tuning.note.lower()


def test_probabilities_are_as_good_as_the_calibrated_bases(outputs: Outputs) -> None:
    rule = tune(outputs, PARTITION, AUTO).rule
    fresh = make_outputs(20_000, seed=2)
    heat = temperature(outputs.base_NC, outputs.label_N)
    base = score(softmax(fresh.base_NC / heat, axis=1), fresh.label_N)
    ours = score(Routing.of(fresh, PARTITION, rule).proba_NC(), fresh.label_N)
    assert ours.nll < base.nll
    assert ours.ece < base.ece + 0.005


@given(st.floats(1, 2))
@settings(max_examples=8)
def test_a_budget_of_passes_is_kept_on_validation(passes: float) -> None:
    outputs = make_outputs(600)
    tuning = tune(outputs, PARTITION, TuningRequest(combiners=("blend",), budget=Budget(passes=passes)))
    report = evaluate(outputs, PARTITION, tuning.rule)
    # Weights, temperatures and a learned gate are fitted anew on all samples, so a few change sides.
    assert report.mean_passes <= passes + 0.05


def test_one_pass_is_the_base(outputs: Outputs) -> None:
    tuning = tune(outputs, PARTITION, TuningRequest(budget=Budget(passes=1)))
    report = evaluate(outputs, PARTITION, tuning.rule)
    assert report.mean_passes == 1
    assert report.gain == 0


def test_a_bounded_risk_is_the_cheapest_that_holds(outputs: Outputs) -> None:
    tight = tune(outputs, PARTITION, TuningRequest(budget=Budget(risk=0.2)))
    loose = tune(outputs, PARTITION, TuningRequest(budget=Budget(risk=0.9)))
    assert 1 - evaluate(make_outputs(20_000, seed=3), PARTITION, tight.rule).ensemble_top1 <= 0.2
    assert loose.chosen.passes == 1 < tight.chosen.passes
    with pytest.raises(InputError, match=r"risk = 0.001: no rule bounds the error rate by it.*lowest bound"):
        tune(outputs, PARTITION, TuningRequest(budget=Budget(risk=0.001)))


def test_a_given_threshold_stands(outputs: Outputs) -> None:
    request = TuningRequest(("blend",), ("margin",), budget=Budget(threshold=0.4))
    gate = tune(outputs, PARTITION, request).rule.gate
    assert (gate.score, gate.threshold) == ("margin", 0.4)


@pytest.mark.parametrize("score", GATES)
@pytest.mark.parametrize("combiner", ["hard", "compose", "blend", "average", "product"])
def test_every_combiner_and_gate_can_be_asked_for(outputs: Outputs, combiner, score) -> None:
    tuning = tune(outputs.take(np.arange(400)), PARTITION, TuningRequest((combiner,), (score,), (2,)))
    assert tuning.rule.gate.score == score
    assert tuning.rule.combiner.name in (combiner, "compose")  # a blend may find that the specialists deserve all
    assert tuning.rule.combiner.top == (1 if combiner == "hard" else 2)


def test_a_specialist_that_does_harm_gets_no_weight_and_is_named() -> None:
    outputs = make_outputs(3000, skill=(1.5, 0.0, 1.5))
    for combiner in ("compose", "blend"):
        rule = tune(outputs, PARTITION, TuningRequest(combiners=(combiner,))).rule
        assert rule.fallen_back(PARTITION) == (1,)
        in_cluster = outputs.take(PARTITION.cluster_of_class_C[outputs.label_N] == 1)
        report = evaluate(in_cluster, PARTITION, rule)
        assert report.ensemble_top1 >= report.base_top1 - 0.01


def test_weights_by_cluster_follow_the_clusters() -> None:
    outputs = make_outputs(6000, skill=(3.0, 0.2, 0.2))
    tuning = tune(outputs, PARTITION, TuningRequest(combiners=("blend",), tops=(1,)))
    assert {candidate.combination.by_cluster for candidate in tuning.candidates} == {False, True}
    assert tuning.chosen.combination.by_cluster
    weight_S = tuning.rule.combiner.weight_S
    assert weight_S[0] > max(weight_S[1:3]) + 0.1


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_where_validation_is_small_the_plain_blend_stands_and_it_is_said(n: int) -> None:
    tuning = tune(make_outputs(n), PARTITION, AUTO)
    assert tuning.chosen.combination == Combination("blend")
    assert tuning.chosen.score == "margin"
    assert len(set(tuning.rule.combiner.weight_S)) == 1
    stands = ("noise, so the plain blend stands", "is the best of the candidates", "No sample is routed")
    assert any(said in tuning.note for said in stands)


def test_without_it_the_papers_rule_stands() -> None:
    tuning = tune(make_outputs(40), PARTITION, TuningRequest(combiners=("hard", "average")))
    assert tuning.chosen.combination == PAPER
    assert tuning.rule == Rule(tuning.rule.gate)
    assert "noise, so the paper's rule stands" in tuning.note


def test_noise_is_not_taken_for_a_choice() -> None:
    rng = np.random.default_rng(0)
    fallen_back = 0
    for _ in range(10):
        random = Outputs(rng.normal(size=(400, 9)), rng.normal(size=(400, 9)), rng.integers(9, size=400))
        tuning = tune(random, PARTITION, TuningRequest(scores=("entropy", "margin")))
        fallen_back += (tuning.chosen.combination, tuning.chosen.score) == (Combination("blend"), "margin")
    assert fallen_back >= 8  # chance alone beats it by 1.28 standard errors once in ten times


def test_as_accurate_as_the_papers_rule_the_better_probabilities_stand_where_samples_are_many() -> None:
    # Specialists are never wrong inside their clusters, which are the right ones but for two samples in a hundred: no
    # rule is more accurate than another, and the paper's gives those two no chance.
    def tied(n: int) -> Outputs:
        drawn = make_outputs(n, skill=(20.0, 20.0, 20.0), noise=0.8)
        elsewhere_N = np.random.default_rng(100).random(n) < 0.02
        return replace(drawn, label_N=np.where(elsewhere_N, (drawn.label_N + 4) % 9, drawn.label_N))

    # Without the blend, which would stand.
    some = TuningRequest(combiners=("hard", "compose", "average", "product"))
    many, few = tune(tied(4000), PARTITION, some), tune(tied(400), PARTITION, some)
    assert many.chosen.combination.combiner != "hard"
    assert "as accurate as the paper's rule to half a point" in many.note
    assert few.chosen.combination == PAPER
    assert "noise, so the paper's rule stands" in few.note


def test_the_temperature_of_the_mixture_makes_labels_likeliest_where_samples_are_routed(outputs: Outputs) -> None:
    request = TuningRequest(("product",), ("margin",), (1,), Budget(passes=1.5))
    rule = tune(outputs, PARTITION, request).rule
    assert abs(np.log(rule.combiner.temperature)) > 0.1

    def loss(heat: float) -> float:
        tempered = replace(rule, combiner=replace(rule.combiner, temperature=heat))
        return score(Routing.of(outputs, PARTITION, tempered).proba_NC(), outputs.label_N).nll

    best = rule.combiner.temperature
    assert loss(best) < min(loss(1.0), loss(0.9 * best), loss(1.1 * best))
    assert tune(outputs, PARTITION, PAPERS).rule.combiner.temperature == 1


@pytest.mark.parametrize("scale", [1e4, 0.0])
def test_all_certain_and_all_uncertain_give_a_rule(scale: float) -> None:
    rng = np.random.default_rng(0)
    label_N = rng.integers(9, size=200)
    same_NC = scale * np.eye(9)[rng.integers(9, size=200)]
    outputs = Outputs(np.float32(same_NC), np.float32(scale * rng.normal(size=(200, 9))), label_N)
    for combiners in (AUTO.combiners, ("blend",), ("average",), ("product",)):
        rule = tune(outputs, PARTITION, TuningRequest(combiners=combiners)).rule
        proba_NC = Routing.of(outputs, PARTITION, rule).proba_NC()
        np.testing.assert_allclose(proba_NC.sum(axis=1), 1, rtol=1e-5)
        assert evaluate(outputs, PARTITION, rule).ensemble_top1 == (proba_NC.argmax(axis=1) == label_N).mean()


def test_a_cluster_without_samples_is_treated_as_the_others() -> None:
    outputs = make_outputs(2000)
    some = outputs.take(PARTITION.cluster_of_class_C[outputs.label_N] != 1)
    rule = tune(some, PARTITION, TuningRequest(combiners=("blend",))).rule
    assert rule.temperatures.specialist_S[1] == 1.0
    assert np.isfinite(rule.combiner.weight_S).all()
    assert evaluate(outputs, PARTITION, rule).gain > 0


def test_samples_of_one_class_only_give_a_rule() -> None:
    outputs = make_outputs(500)
    one = outputs.take(outputs.label_N == 4)
    assert tune(one, PARTITION, AUTO).accuracy >= (one.base_NC.argmax(axis=1) == 4).mean()


def test_a_cover_of_two_partitions_can_be_tuned() -> None:
    other = Partition.from_assignment([0, 1, 2, 0, 1, 2, 0, 1, 2])
    cover = Partition(np.concatenate([PARTITION.member_SC, other.member_SC]))
    outputs = make_outputs(1500)
    rng = np.random.default_rng(5)
    more_NM = 3 * np.eye(9)[outputs.label_N][:, other.packed_class_M] + rng.normal(size=(1500, 9))
    both = Outputs(outputs.base_NC, np.concatenate([outputs.packed_NM, more_NM], axis=1), outputs.label_N)
    tuning = tune(both, cover, TuningRequest(combiners=("blend",), tops=(1, 2)))
    assert tuning.chosen.gain > 0
    assert evaluate(both, cover, tuning.rule).mean_passes <= 3


def test_the_same_seed_gives_the_same_choice_and_shuffled_samples_a_like_one(outputs: Outputs) -> None:
    assert tune(outputs, PARTITION, AUTO, seed=3).rule == tune(outputs, PARTITION, AUTO, seed=3).rule
    order = np.random.default_rng(0).permutation(len(outputs.label_N))
    fresh = make_outputs(20_000, seed=4)
    first, second = (gain_of(tune(o, PARTITION, AUTO).rule, fresh) for o in (outputs, outputs.take(order)))
    assert first == pytest.approx(second, abs=0.01)


def test_the_papers_rule_alone_is_one_combination() -> None:
    assert PAPERS.combinations(PARTITION) == [PAPER]


def test_more_clusters_than_there_are_cannot_be_asked() -> None:
    request = TuningRequest(combiners=("blend", "compose"), tops=(1, 2, 9))
    assert {c.top for c in request.combinations(PARTITION)} == {1, 2, 4}


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to choose from"):
        TuningRequest(combiners=())


def test_a_large_validation_split_is_worked_off_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = make_outputs(700)
    whole = tune(outputs, PARTITION, AUTO)
    monkeypatch.setattr(fitting, "CHUNK", 64)
    assert tune(outputs, PARTITION, AUTO).candidates == whole.candidates


def test_a_combiners_title_names_what_differs() -> None:
    titles = {c.title for c in TuningRequest(combiners=("hard", "blend"), tops=(1, 2)).combinations(PARTITION)}
    assert titles == {
        "hard",
        "blend",
        "blend, weights by cluster",
        "blend, top 2",
        "blend, weights by cluster, top 2",
    }
    assert Combiner.named("hard").top == 1


def test_a_specialist_of_all_classes_is_a_second_opinion() -> None:
    one = Partition.from_members([[0, 1, 2]], 3)
    found = TuningRequest().combinations(one)
    assert {combination.combiner for combination in found} == set(COMBINERS) - {"hard"}
    assert len(found) == len({combination.combiner for combination in found})
    assert [each.combiner for each in TuningRequest(combiners=("hard",)).combinations(one)] == ["hard"]


@pytest.mark.parametrize("budget", [Budget(), Budget(passes=1.5), Budget(routed=0.5)])
def test_a_gain_that_may_be_chance_routes_nothing(budget: Budget) -> None:
    """Specialists that answer at random: what the best of a hundred candidates gains with them is luck."""
    outputs = make_outputs(400, 2, skill=(0.0, 0.0, 0.0))
    tuning = tune(outputs, PARTITION, TuningRequest(budget=budget))
    gained, error = map(float, re.findall(r"([+-]?\d\.\d\d)", tuning.note)[:2])
    assert gained <= error
    assert "No sample is routed" in tuning.note
    assert tuning.rule.gate.threshold == np.inf
    assert (tuning.chosen.gain, tuning.chosen.passes, tuning.chosen.routed) == (0.0, 1.0, 0.0)
    assert tuning.accuracy == tuning.chosen.accuracy == (outputs.base_NC.argmax(1) == outputs.label_N).mean()
    assert gain_of(tuning.rule, make_outputs(400, 9)) == 0


def test_a_threshold_that_is_given_decides() -> None:
    given = TuningRequest(("blend",), ("margin",), (1,), Budget(threshold=0.5))
    tuning = tune(make_outputs(400, 2, skill=(0.0, 0.0, 0.0)), PARTITION, given)
    assert tuning.rule.gate.threshold == 0.5


def test_a_gain_beyond_its_error_is_routed() -> None:
    tuning = tune(make_outputs(400), PARTITION, TuningRequest(budget=Budget(passes=1.5)))
    assert tuning.chosen.routed > 0
    assert "No sample is routed" not in tuning.note


def test_probabilities_that_are_clearly_better_are_routed_where_the_gain_may_be_chance(monkeypatch) -> None:
    """A second opinion that says much the same as the base, a little better."""
    rng = np.random.default_rng(1)
    label_N = rng.integers(6, size=400)
    truth_NC = np.eye(6)[label_N]
    base_NC = 6 * truth_NC + rng.normal(scale=2.0, size=(400, 6))
    other_NC = base_NC + 0.8 * truth_NC + rng.normal(scale=0.5, size=(400, 6))
    outputs = Outputs(base_NC.astype(np.float32), other_NC.astype(np.float32), label_N)
    one, request = Partition.from_members([list(range(6))], 6), TuningRequest(budget=Budget(passes=1.5))
    assert tune(outputs, one, request).chosen.routed > 0
    monkeypatch.setattr("coterie.routing.tune.LOSS_ERRORS_TO_ROUTE", np.inf)
    assert "may be chance" in tune(outputs, one, request).note
