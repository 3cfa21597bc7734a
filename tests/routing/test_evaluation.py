import numpy as np
import pytest
from scipy.special import softmax

from coterie.errors import InputError
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule


@pytest.fixture
def outputs() -> Outputs:
    rng = np.random.default_rng(1)
    label_N = rng.integers(6, size=400)
    base_NC = rng.normal(size=(400, 6)) + 1.2 * np.eye(6)[label_N]
    packed_NM = rng.normal(size=(400, 6)) + 2.0 * np.eye(6)[label_N][:, [0, 3, 1, 4, 5, 2]]
    return Outputs(base_NC, packed_NM, label_N)


PARTITION = Partition.from_assignment([0, 1, 2, 0, 1, 1])  # packed columns: 0 3 | 1 4 5 | 2


def test_every_figure_agrees_with_a_slow_plain_version(outputs: Outputs) -> None:
    report = evaluate(outputs, PARTITION, Rule(Gate(1.3)))
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
    report = evaluate(outputs, PARTITION, Rule(Gate(np.inf)))
    assert report.ensemble_top1 == report.base_top1
    assert report.gain == 0
    assert report.threshold is None
    assert report.mean_passes == 1


def test_restricting_the_base_never_lowers_its_accuracy_in_a_cluster(outputs: Outputs) -> None:
    for row in evaluate(outputs, PARTITION, Rule(Gate(1.0))).clusters:
        assert row.restricted_top1 >= row.base_top1
        assert row.restricted_top3 >= row.base_top3


def test_one_cluster_of_all_classes_has_a_perfect_router(outputs: Outputs) -> None:
    whole = Partition.from_assignment([0] * 6)
    report = evaluate(outputs, whole, Rule(Gate(0.0)))
    assert report.router_accuracy == 1
    assert report.oracle_restricted == report.base_top1


def test_a_cluster_without_samples_counts_as_none(outputs: Outputs) -> None:
    rows = outputs.label_N != 2
    some = Outputs(outputs.base_NC[rows], outputs.packed_NM[rows], outputs.label_N[rows])
    assert evaluate(some, PARTITION, Rule(Gate(1.0))).clusters[2].n_samples == 0


def test_temperatures_and_top_are_in_every_figure(outputs: Outputs) -> None:
    rule = Rule(
        Gate(0.4, "contested"), Combiner.named("blend", (0.5, 0.0, 1.0), top=2), Temperatures(2.0, (1.0, 3.0, 1.0))
    )
    report = evaluate(outputs, PARTITION, rule)
    right = passes = routed = 0
    for logits, packed, label in zip(outputs.base_NC, outputs.packed_NM, outputs.label_N, strict=True):
        p = softmax(logits / 2)
        masses = np.array([p[PARTITION.classes(s)].sum() for s in range(3)])
        order = np.argsort(-masses, kind="stable")
        inside = np.sort(p[PARTITION.classes(order[0])])[::-1]
        answer = p.copy()
        if masses.max() - (inside[0] - inside[1:2].sum()) >= 0.4:
            routed += 1
            if 0 in order[:2]:  # of the others, one has no weight and one a single class
                passes += 1
                classes = PARTITION.classes(0)
                mixed = np.sqrt(p[classes] / masses[0] * softmax(packed[PARTITION.columns(0)]))
                answer[classes] = masses[0] * mixed / mixed.sum()
        right += answer.argmax() == label
    n = len(outputs.label_N)
    assert report.ensemble_top1 == pytest.approx(right / n)
    assert report.routed_fraction == pytest.approx(routed / n)
    assert report.mean_passes == pytest.approx(1 + passes / n)
    assert rule.fallen_back(PARTITION) == (1,)


def test_a_cover_counts_a_sample_in_each_cluster_that_holds_its_class(outputs: Outputs) -> None:
    cover = Partition.from_members([[0, 1, 2, 3], [3, 4, 5]], 6)
    both = Outputs(outputs.base_NC, outputs.base_NC[:, cover.packed_class_M], outputs.label_N)
    report = evaluate(both, cover, Rule(Gate(0.0), Combiner.named("compose", top=2)))
    counts = np.bincount(outputs.label_N, minlength=6)
    assert [row.n_samples for row in report.clusters] == [counts[:4].sum(), counts[3:].sum()]
    # Specialists that repeat the base change nothing, however clusters overlap.
    assert report.ensemble_top1 == report.base_top1
    assert report.mean_passes == 3


def test_some_samples_can_be_taken(outputs: Outputs) -> None:
    some = outputs.take(np.array([3, 1]))
    np.testing.assert_array_equal(some.label_N, outputs.label_N[[3, 1]])
    np.testing.assert_array_equal(some.packed_NM, outputs.packed_NM[[3, 1]])


def test_logits_that_do_not_fit_are_refused(outputs: Outputs) -> None:
    with pytest.raises(InputError, match="labels 3"):
        Outputs(outputs.base_NC, outputs.packed_NM, outputs.label_N[:3])
    broken = outputs.base_NC.copy()
    broken[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        Outputs(broken, outputs.packed_NM, outputs.label_N)
