import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.partition import Partition
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Gate, entropy
from coterie.routing.ladder import ladder_of
from coterie.routing.rule import Rule


def sample(seed: int, n: int = 60, n_classes: int = 7) -> tuple[Outputs, Partition]:
    rng = np.random.default_rng(seed)
    partition = Partition.from_assignment([0, 1, 2, 0, 1, 0, 1])
    label_N = rng.integers(n_classes, size=n)
    base_NC = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[label_N]
    packed_NM = (rng.normal(size=(n, n_classes)) + 2.0 * np.eye(n_classes)[label_N])[:, partition.packed_class_M]
    return Outputs(base_NC, packed_NM, label_N), partition


def by_hand(outputs: Outputs, partition: Partition, threshold: float) -> dict[str, float]:
    counts = dict.fromkeys(("base", "routing", "restricted", "oracle_specialist", "routed", "gated", "best_gate"), 0)
    for row, label in enumerate(outputs.label_N):
        logits = outputs.base_NC[row]
        proba = np.exp(logits) / np.exp(logits).sum()
        chosen = int(np.argmax([proba[partition.classes(k)].sum() for k in range(partition.n_clusters)]))
        true = next(k for k in range(partition.n_clusters) if label in partition.classes(k))

        def best(values: np.ndarray, cluster: int) -> int:
            return int(partition.classes(cluster)[values.argmax()])

        base = int(logits.argmax())
        routed = best(outputs.packed_NM[row, partition.columns(chosen)], chosen)
        answers = {
            "base": base,
            "routing": best(logits[partition.classes(chosen)], chosen),
            "restricted": best(logits[partition.classes(true)], true),
            "oracle_specialist": best(outputs.packed_NM[row, partition.columns(true)], true),
            "routed": routed,
            "gated": routed if entropy(proba[None])[0] >= threshold else base,
            "best_gate": label if label in (base, routed) else -1,
        }
        for name, answer in answers.items():
            counts[name] += answer == label
    return {name: count / len(outputs.label_N) for name, count in counts.items()}


@given(st.integers(0, 10_000), st.floats(0, 2))
def test_each_step_is_what_it_says(seed: int, threshold: float) -> None:
    outputs, partition = sample(seed)
    found = ladder_of(outputs, partition, Rule(Gate(threshold)))
    assert vars(found) == pytest.approx(by_hand(outputs, partition, threshold))


def test_it_agrees_with_the_report_and_is_bounded_by_the_best_gate() -> None:
    outputs, partition = sample(3)
    found = ladder_of(outputs, partition, Rule(Gate(0.9)))
    report = evaluate(outputs, partition, Rule(Gate(0.9)))
    assert (found.base, found.gated) == (report.base_top1, report.ensemble_top1)
    assert (found.restricted, found.oracle_specialist) == pytest.approx(
        (report.oracle_restricted, report.oracle_specialist)
    )
    assert found.best_gate >= max(found.base, found.routed, found.gated)
