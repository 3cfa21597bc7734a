import numpy as np
import pytest
from scipy.special import softmax

from coterie.measures.report import ClusterRow, Curve, Report
from coterie.measures.significance import over_seeds
from coterie.studies.comparison.tables import Contender, ContenderCost, compare
from coterie.studies.reproduction.study import paper_figures
from coterie.studies.reproduction.tables import summarise


def report(gain: float, specialist: float, restricted: float = 0.75) -> Report:
    row = ClusterRow(0, (0, 1), 100, 0.7, restricted, specialist, 0.9, 0.9, 0.9)
    return Report(
        100, 0.7, 0.9, 0.7 + gain, 0.9, gain, gain, gain, 0.4, 1.4, 0.85, restricted, specialist, 0.5, 3, 1, (row,),
        Curve((0.0,), (0.0,), (0.7,)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gains", "specialist", "expected"),
    [
        ((0.005, 0.008, 0.0101), 0.77, ("Holds", "For the lesser part", "In the means, yes", "Consistent")),
        ((0.012, 0.008, 0.002), 0.69, ("Does not hold", "For the lesser part", "No", "Less than that")),
        ((0.02, 0.03, 0.04), 0.95, ("Holds", "For the most part", "In the means, yes", "More than that")),
    ],
)
def test_claims_follow_the_figures(gains, specialist, expected) -> None:
    reports = {
        s: [report(gain + jitter, specialist) for jitter in (-0.0001, 0, 0.0001)]
        for s, gain in zip((3, 8, 9), gains, strict=True)
    }
    claims = summarise(reports, (), (0, 1, 2), paper_figures()).claims
    assert len(claims) == 4
    for (_, found), start in zip(claims, expected, strict=True):
        assert found.startswith(start)


def test_columns_are_means_over_seeds() -> None:
    reports = {9: [report(0.01, 0.8), report(0.03, 0.7)]}
    column = summarise(reports, (), (0, 1), paper_figures()).columns[0]
    assert column.gain == over_seeds([0.01, 0.03])
    assert (column.better_than_base, column.better_than_restricted, column.n_specialists) == (1, 1, 2)


@pytest.mark.parametrize(("strength", "words"), [(3.0, "Holds: +"), (1.0, "Not shown: ")])
def test_the_lead_over_controls_is_a_claim(strength: float, words: str) -> None:
    def table(seed: int):
        rng = np.random.default_rng(seed)
        label_N = rng.integers(4, size=500)

        def contender(name: str, kind: str, factor: float) -> Contender:
            proba_NC = softmax(factor * np.eye(4)[label_N] + rng.normal(size=(500, 4)), axis=1)
            return Contender(name, name, kind, proba_NC.argmax(axis=1), proba_NC, ContenderCost(1.5))

        rows = [contender("base", "base", 1.0), contender("specialists", "specialists", strength)]
        return compare([*rows, contender("copy", "control", 1.0)], label_N, label_N)

    reports = {9: [report(0.01, 0.8)] * 3}
    claim, found = summarise(reports, [table(seed) for seed in range(3)], (0, 1, 2), paper_figures()).claims[-1]
    assert claim.startswith("No control of the same training budget")
    assert found.startswith(words)
    assert found.endswith(f"the interval {'excludes' if strength > 1 else 'includes'} zero.")
