"""The pilot's clusters, and the skill that it measures, on specialists of a known skill."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coterie.partition import Partition
from coterie.routing.evaluation import Outputs
from coterie.routing.forecast import BasePredictions, Outlook, Skill
from coterie.routing.pilot import PILOT_SHARE, measured_skill, open_errors, open_share, pilot_clusters

PRIOR = Skill(0.07, 0.1)
N_CLASSES, SIZE = 20, 4


def outputs_of(seed: int, n_samples: int, strength: float) -> tuple[Outputs, Partition]:
    """A base that confuses the four classes of a group; specialists that know more of the label, or nothing of it."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(N_CLASSES, size=n_samples)
    partition = Partition.from_assignment(np.arange(N_CLASSES) // SIZE)
    base_NC = rng.normal(size=(n_samples, N_CLASSES)).astype(np.float32)
    base_NC += 6 * ((np.arange(N_CLASSES) // SIZE)[None, :] == (label_N // SIZE)[:, None])
    base_NC[np.arange(n_samples), label_N] += 1
    packed_NM = rng.normal(size=(n_samples, len(partition.packed_class_M))).astype(np.float32)
    packed_NM += strength * (partition.packed_class_M[None, :] == label_N[:, None])
    return Outputs(base_NC, packed_NM, label_N), partition


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_the_pilot_takes_the_most_errors_that_its_share_of_the_training_allows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    partition = Partition.from_assignment(np.append(np.arange(12), rng.integers(12, size=28)))
    open_S, count_C = rng.random(12) * (rng.random(12) < 0.7), rng.integers(1, 50, size=40)
    chosen = pilot_clusters(partition, open_S, count_C)
    trained_S = np.array([count_C[partition.classes(cluster)].sum() for cluster in range(12)]) / count_C.sum()
    able = [cluster for cluster in range(12) if partition.size_S[cluster] > 1 and open_S[cluster] > 0]
    assert set(chosen) <= set(able)
    assert bool(chosen) == bool(able)
    if trained_S[list(chosen)].sum() > PILOT_SHARE:  # none is so small: then the smallest
        assert len(chosen) == 1
        assert trained_S[chosen[0]] == min(trained_S[able])
    else:
        fit = [cluster for cluster in able if trained_S[cluster] <= PILOT_SHARE]
        assert not able or max(open_S[fit]) == max(open_S[list(chosen)])
        for left in set(able) - set(chosen):
            better = [cluster for cluster in chosen if open_S[cluster] >= open_S[left]]
            assert trained_S[[*better, left]].sum() > PILOT_SHARE


def test_open_errors_by_cluster_add_up_to_those_of_all_samples() -> None:
    outputs, partition = outputs_of(0, 500, 1.0)
    answers = BasePredictions(outputs.base_NC, outputs.label_N)
    by_cluster = open_errors(answers, partition, "blend")
    assert by_cluster.shape == (5,)
    assert np.isclose(by_cluster.sum(), Outlook.of(answers, partition).change(answers, "blend")[1].sum())


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_errors_are_open_where_the_likeliest_cluster_holds_the_class(seed: int) -> None:
    outputs, partition = outputs_of(seed, 60, 1.0)
    # Some labels of other groups, which no specialist of the likeliest cluster knows.
    label_N = np.where(np.random.default_rng(seed).random(60) < 0.4, (outputs.label_N + 7) % N_CLASSES, outputs.label_N)
    inside, wrong = 0, 0
    for logits_C, label in zip(outputs.base_NC, label_N, strict=True):
        proba_C = np.exp(logits_C) / np.exp(logits_C).sum()
        masses = [proba_C[partition.classes(cluster)].sum() for cluster in range(partition.n_clusters)]
        if logits_C.argmax() != label:
            wrong += 1
            inside += label in partition.classes(int(np.argmax(masses)))
    share = open_share(BasePredictions(outputs.base_NC, label_N), partition)
    assert np.isclose(share, inside / wrong)
    whole = Partition.from_assignment([0] * N_CLASSES)
    assert open_share(BasePredictions(outputs.base_NC, label_N), whole) == 1


def test_a_base_without_errors_has_none_that_are_closed() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1])
    assert open_share(BasePredictions(10 * np.eye(4, dtype=np.float32), np.arange(4)), partition) == 1


def test_the_skill_of_good_specialists_is_measured_on_the_clusters_that_have_one() -> None:
    outputs, partition = outputs_of(1, 4000, 4.0)
    outputs.packed_NM[:, partition.columns(4)] = np.nan_to_num(0.0)  # not trained yet
    found = measured_skill(outputs, partition, (0, 1), "blend", PRIOR)
    assert found.measured
    assert found.mean > 0.4
    assert found.spread < PRIOR.spread


def test_specialists_that_know_nothing_have_no_skill() -> None:
    outputs, partition = outputs_of(2, 4000, 0.0)
    found = measured_skill(outputs, partition, (0, 1), "blend", PRIOR)
    assert abs(found.mean) < 0.05


def test_under_the_papers_rule_ignorant_specialists_do_harm() -> None:
    outputs, partition = outputs_of(3, 4000, 0.0)
    assert measured_skill(outputs, partition, (0, 1), "hard", PRIOR).mean < 0


def test_few_samples_leave_the_prior() -> None:
    outputs, partition = outputs_of(4, 12, 4.0)
    assert measured_skill(outputs, partition, (0,), "blend", PRIOR) is PRIOR


def test_the_fewer_samples_the_closer_to_the_prior() -> None:
    means = [measured_skill(*outputs_of(5, n, 4.0), (0,), "blend", PRIOR).mean for n in (150, 4000)]
    assert PRIOR.mean < means[0] < means[1]
