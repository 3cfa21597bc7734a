import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from coterie.studies.comparison.untrained import N_NEIGHBOURS, class_offsets, mixing_weight, neighbour_logits


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_offsets_bring_predictions_nearer_to_what_is_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 5, 400)
    # A base that likes its first class too much.
    logits_NC = rng.normal(size=(400, 5)) + 2 * np.eye(5)[label_N] + np.array([rng.uniform(1, 3), 0, 0, 0, 0])

    def unbalance(offset_C: np.ndarray) -> float:
        return float(
            np.abs(softmax(logits_NC + offset_C, axis=1).sum(axis=0) - np.bincount(label_N, minlength=5)).sum()
        )

    assert unbalance(class_offsets(logits_NC, label_N)) < unbalance(np.zeros(5))


def test_offsets_of_a_base_in_balance_are_none() -> None:
    label_N = np.repeat(np.arange(3), 4)
    assert class_offsets(40.0 * np.eye(3)[label_N], label_N) == pytest.approx(np.zeros(3))


def test_neighbours_are_those_of_all_pairs_of_samples() -> None:
    rng = np.random.default_rng(0)
    known_ND, asked_RD, label_N = rng.normal(size=(60, 4)), rng.normal(size=(7, 4)), rng.integers(0, 3, 60)
    found_RC = neighbour_logits(known_ND, label_N, asked_RD, 3)
    for asked_D, found_C in zip(asked_RD, found_RC, strict=True):
        distances = [
            np.linalg.norm(known / np.linalg.norm(known) - asked_D / np.linalg.norm(asked_D)) for known in known_ND
        ]
        nearest = np.argsort(distances)[:N_NEIGHBOURS]
        votes = [sum(np.exp(-(distances[n] ** 2) / 0.1) for n in nearest if label_N[n] == c) for c in range(3)]
        assert np.exp(found_C) == pytest.approx(np.array(votes) / sum(votes) + 1e-4, rel=1e-4)


def test_neighbours_that_are_far_and_few_say_nothing() -> None:
    found_RC = neighbour_logits(np.array([[1.0, 0.0]]), np.array([1]), np.array([[-1.0, 0.0]]), 4)
    assert found_RC == pytest.approx(np.log(np.full((1, 4), 0.25 + 1e-4)), abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_weight_is_the_best_of_many(share: float) -> None:
    rng = np.random.default_rng(1)
    first_NC, second_NC = rng.dirichlet(np.ones(4), (2, 3000))
    mixed_NC = (1 - share) * first_NC + share * second_NC
    label_N = np.array([rng.choice(4, p=proba_C) for proba_C in mixed_NC])
    weight = mixing_weight(first_NC, second_NC, label_N)

    def loss(tried: float) -> float:
        mixed_NC = (1 - tried) * first_NC + tried * second_NC
        return -float(np.log(mixed_NC[np.arange(3000), label_N] + 1e-12).mean())

    assert loss(weight) <= min(loss(tried) for tried in np.linspace(0, 1, 101)) + 1e-5
    assert weight == pytest.approx(share, abs=0.1)
