import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import PartitionError
from coterie.partition import Partition, join_confused
from coterie.routing.evaluation import evaluate
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs, read_reports
from coterie.run.values import partition_of, rule_of
from helpers import changed


def slow_cover(partition: Partition, proba_NC: np.ndarray, label_N: np.ndarray, n_guests: int) -> np.ndarray:
    """Guests one by one, the pair that loses most first."""
    member_SC = partition.member_SC.copy()
    for _ in range(n_guests):
        best, pair = 0.0, None
        for cluster in range(partition.n_clusters):
            for label in range(partition.n_classes):
                lost = proba_NC[np.ix_(label_N == label, partition.classes(cluster))].sum()
                if not member_SC[cluster, label] and lost > best:
                    best, pair = lost, (cluster, label)
        if pair is not None:
            member_SC[pair] = True
    return member_SC


@given(n_classes=st.integers(3, 8), n_clusters=st.integers(2, 3), n_guests=st.integers(0, 8), seed=st.integers(0, 99))
def test_guests_are_the_classes_that_a_cluster_takes_most_from(n_classes, n_clusters, n_guests, seed) -> None:
    n_guests = min(n_guests, n_classes * (n_clusters - 1))
    rng = np.random.default_rng(seed)
    cluster_C = np.concatenate([np.arange(n_clusters), rng.integers(0, n_clusters, n_classes - n_clusters)])
    partition = Partition.from_assignment(cluster_C)
    label_N = rng.integers(0, n_classes, 40)
    proba_NC = rng.dirichlet(np.ones(n_classes), size=40)
    cover = join_confused(partition, proba_NC, label_N, n_guests / n_classes)
    np.testing.assert_array_equal(cover.member_SC, slow_cover(partition, proba_NC, label_N, n_guests))


def test_without_overlap_it_is_the_partition_and_never_lost_classes_stay_at_home() -> None:
    partition = Partition.from_assignment([0, 0, 1, 1])
    proba_NC = np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0.4, 0.6, 0], [0, 0, 0, 1]])
    assert not join_confused(partition, proba_NC, np.arange(4), 0.0).overlaps
    most = join_confused(partition, proba_NC, np.arange(4), 1.0)
    np.testing.assert_array_equal(most.member_SC, [[True, True, True, False], [False, False, True, True]])
    for overlap in (-0.1, 1.5):
        with pytest.raises(PartitionError, match=rf"overlap of {overlap} is not allowed for 2 clusters; allowed: 0"):
            join_confused(partition, proba_NC, np.arange(4), overlap)


def test_fit_trains_specialists_of_a_cover(tmp_path, settings: FitSettings, splits: Splits) -> None:
    chosen = changed(settings, partition={"clusters": [3], "overlap": 0.5})
    fitted = coterie.fit(chosen, tmp_path / "run", splits=splits)
    partition = fitted.partition
    assert len(partition.packed_class_M) == 8 + 4
    plain = coterie.fit(settings, tmp_path / "plain", splits=splits, base_run=tmp_path / "run").partition
    assert (partition.member_SC >= plain.member_SC).all()
    loaded = coterie.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.partition.member_SC, partition.member_SC)
    pixels = splits.test.samples.read(np.arange(len(splits.test)))
    right = loaded.predict_proba(pixels.numpy()).argmax(axis=1) == splits.test.labels_N.numpy()
    report = read_reports(Run.open_complete(tmp_path / "run"))["test"]
    assert report.ensemble_top1 == pytest.approx(right.mean())
    # The likeliest cluster of a cover holds the true class more often.
    assert report.router_accuracy >= evaluate_router(tmp_path / "plain")
    with pytest.raises(PartitionError, match=r"overlap of 0.5 is not allowed for 1 cluster"):
        coterie.fit(changed(settings, partition={"clusters": [1], "overlap": 0.5}), splits=splits)


def evaluate_router(path) -> float:
    run = Run.open_complete(path)
    outputs = read_outputs(run, "test")
    return evaluate(outputs, partition_of(run.manifest), rule_of(run.manifest)).router_accuracy
