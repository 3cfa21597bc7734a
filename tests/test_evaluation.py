import numpy as np
import pytest
from scipy.special import softmax

from coterie.errors import InputError
from coterie.evaluation import Outputs, evaluate
from coterie.gate import Gate
from coterie.partition import Partition


@pytest.fixture
def outputs() -> Outputs:
    rng = np.random.default_rng(1)
    label_N = rng.integers(6, size=400)
    base_NC = rng.normal(size=(400, 6)) + 1.2 * np.eye(6)[label_N]
    packed_NM = rng.normal(size=(400, 6)) + 2.0 * np.eye(6)[label_N][:, [0, 3, 1, 4, 5, 2]]
    return Outputs(base_NC, packed_NM, label_N)


PARTITION = Partition.from_assignment([0, 1, 2, 0, 1, 1])  # packed columns: 0 3 | 1 4 5 | 2


def test_every_figure_agrees_with_a_slow_plain_version(outputs: Outputs) -> None:
    report = evaluate(outputs, PARTITION, Gate(1.3), "hard")
    base_right = routed = right = router = restricted = specialist = asked = 0
    for logits, packed, label in zip(outputs.base_NC, outputs.packed_NM, outputs.label_N, strict=True):
        proba = softmax(logits)
        masses = [proba[PARTITION.classes(s)].sum() for s in range(3)]
        cluster = int(np.argmax(masses))
        answer = int(np.argmax(proba))
        base_right += answer == label
        if -(proba * np.log(proba)).sum() >= 1.3:
            routed += 1
            asked += cluster != 2
            answer = int(PARTITION.classes(cluster)[np.argmax(packed[PARTITION.columns(cluster)])])
        right += answer == label
        router += label in PARTITION.classes(cluster)
        own = int(PARTITION.cluster_of_class_C[label])
        restricted += PARTITION.classes(own)[np.argmax(logits[PARTITION.classes(own)])] == label
        specialist += PARTITION.classes(own)[np.argmax(packed[PARTITION.columns(own)])] == label
    n = len(outputs.label_N)
    assert report.base_top1 == pytest.approx(base_right / n)
    assert report.ensemble_top1 == pytest.approx(right / n)
    assert report.gain == pytest.approx((right - base_right) / n)
    assert report.corrected - report.spoiled == right - base_right
    assert report.routed_fraction == pytest.approx(routed / n)
    assert report.mean_passes == pytest.approx(1 + asked / n)
    assert report.router_accuracy == pytest.approx(router / n)
    assert report.oracle_restricted == pytest.approx(restricted / n)
    assert report.oracle_specialist == pytest.approx(specialist / n)
    assert sum(row.n_samples for row in report.clusters) == n


def test_a_gate_that_routes_nothing_leaves_the_base(outputs: Outputs) -> None:
    report = evaluate(outputs, PARTITION, Gate(np.inf), "hard")
    assert report.ensemble_top1 == report.base_top1
    assert report.gain == 0
    assert report.threshold is None
    assert report.mean_passes == 1


def test_restricting_the_base_never_lowers_its_accuracy_in_a_cluster(outputs: Outputs) -> None:
    for row in evaluate(outputs, PARTITION, Gate(1.0), "hard").clusters:
        assert row.restricted_top1 >= row.base_top1
        assert row.restricted_top3 >= row.base_top3


def test_one_cluster_of_all_classes_has_a_perfect_router(outputs: Outputs) -> None:
    whole = Partition.from_assignment([0] * 6)
    report = evaluate(outputs, whole, Gate(0.0), "hard")
    assert report.router_accuracy == 1
    assert report.oracle_restricted == report.base_top1


def test_a_cluster_without_samples_counts_as_none(outputs: Outputs) -> None:
    rows = outputs.label_N != 2
    some = Outputs(outputs.base_NC[rows], outputs.packed_NM[rows], outputs.label_N[rows])
    assert evaluate(some, PARTITION, Gate(1.0), "hard").clusters[2].n_samples == 0


def test_logits_that_do_not_fit_are_refused(outputs: Outputs) -> None:
    with pytest.raises(InputError, match="labels 3"):
        Outputs(outputs.base_NC, outputs.packed_NM, outputs.label_N[:3])
    broken = outputs.base_NC.copy()
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        Outputs(broken, outputs.packed_NM, outputs.label_N)
