"""Reports and comparisons of several seeds -> the paper's tables, ours beside its figures, and which claims hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from coterie.measures.report import ClusterRow, Report
from coterie.measures.significance import Interval, over_seeds
from coterie.pages.format import gain, points, zero
from coterie.studies.comparison.tables import Comparison, SeedsRow, compare_seeds

# What the paper claims to be the gain on the whole test set: "about one point".
CLAIMED_GAIN = 0.01


@dataclass(frozen=True)
class PaperFigures:
    """The paper's, as shares of 1. ``clusters``: by number of clusters, of each cluster top-1 of base and specialist,
    then top-3 of both.
    """

    base: float
    ensemble: float
    clusters: Mapping[int, tuple[tuple[float, float, float, float], ...]]


@dataclass(frozen=True)
class Column:
    """One number of clusters over all seeds. Accuracies are means over seeds with Student's intervals.

    ``restricted``, ``specialist``: in the true cluster. ``better_than_base``, ``better_than_restricted``: in how many
    of the ``n_specialists`` clusters of all seeds the specialist is.
    """

    n_clusters: int
    ensemble: Interval
    gain: Interval
    base_within: Interval
    restricted: Interval
    specialist: Interval
    router: Interval
    passes: Interval
    better_than_base: int
    better_than_restricted: int
    n_specialists: int
    rows: tuple[tuple[ClusterRow, ...], ...]


@dataclass(frozen=True)
class Reproduction:
    """The study's result. ``columns``: one per number of clusters; ``table``: all controls over seeds; ``claims``: each
    of the paper's, and what was found; ``notes``: what is missing.
    """

    seeds: tuple[int, ...]
    base: Interval
    columns: tuple[Column, ...]
    table: tuple[SeedsRow, ...]
    paper: PaperFigures
    claims: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def summarise(
    reports: Mapping[int, Sequence[Report]],
    comparisons: Sequence[Comparison],
    seeds: Sequence[int],
    paper: PaperFigures,
    notes: Sequence[str] = (),
) -> Reproduction:
    """The tables of a study.

    Args:
        reports: on test, by number of clusters, one for each seed.
        comparisons: with the controls, one for each seed.
        seeds: which.
        paper: its figures.
        notes: passed on.
    """
    columns = tuple(_column(n_clusters, found) for n_clusters, found in sorted(reports.items()))
    first = next(iter(reports.values()))
    table = compare_seeds(comparisons)
    return Reproduction(
        tuple(seeds),
        over_seeds([report.base_top1 for report in first]),
        columns,
        table,
        paper,
        _claims(columns, table),
        tuple(notes),
    )


def _column(n_clusters: int, reports: Sequence[Report]) -> Column:
    rows = [row for report in reports for row in report.clusters if len(row.classes) > 1 and row.n_samples]

    def mean(name: str) -> Interval:
        return over_seeds([getattr(report, name) for report in reports])

    return Column(
        n_clusters,
        mean("ensemble_top1"),
        mean("gain"),
        mean("base_top1"),
        mean("oracle_restricted"),
        mean("oracle_specialist"),
        mean("router_accuracy"),
        mean("mean_passes"),
        sum(row.specialist_top1 > row.base_top1 for row in rows),
        sum(row.specialist_top1 > row.restricted_top1 for row in rows),
        len(rows),
        tuple(report.clusters for report in reports),
    )


def _claims(columns: Sequence[Column], table: Sequence[SeedsRow]) -> tuple[tuple[str, str], ...]:
    claims = [_beats_base(columns), _own_share(columns), _grows(columns), _gains_a_point(columns[-1])]
    ours = next((row for row in table if row.kind == "specialists" and not row.flips), None)
    if ours is not None and ours.lead is not None:
        found = f"{gain(ours.lead)} points over the control that is best on validation"
        found += f"; {zero(ours.lead.low, ours.lead.high)}." if np.isfinite(ours.lead.low) else "."
        holds = "Holds" if ours.lead.low > 0 else "Not shown"
        claims.append(("No control of the same training budget gives as much", f"{holds}: {found}"))
    return tuple(claims)


def _beats_base(columns: Sequence[Column]) -> tuple[str, str]:
    better = ", ".join(f"{c.better_than_base} of {c.n_specialists} at S = {c.n_clusters}" for c in columns)
    holds = "Holds" if all(c.better_than_base == c.n_specialists for c in columns) else "Does not hold"
    return "The specialist beats the base in every cluster", f"{holds}: it beats the base over all classes in {better}."


def _own_share(columns: Sequence[Column]) -> tuple[str, str]:
    mostly = all(c.specialist.mean - c.restricted.mean > c.restricted.mean - c.base_within.mean for c in columns)
    shares = "; ".join(
        f"{points(c.specialist.mean - c.restricted.mean)} of {points(c.specialist.mean - c.base_within.mean)} points "
        f"at S = {c.n_clusters}, better in {c.better_than_restricted} of {c.n_specialists} clusters"
        for c in columns
    )
    found = f"of the difference within the true cluster, training adds to restriction alone {shares}."
    return "That is the specialist's doing", f"{'For the most part' if mostly else 'For the lesser part'}: {found}"


def _grows(columns: Sequence[Column]) -> tuple[str, str]:
    gains = ", ".join(f"{gain(c.gain)} at S = {c.n_clusters}" for c in columns)
    grows = all(before.gain.mean < after.gain.mean for before, after in pairwise(columns))
    return "The gain grows with the number of clusters", f"{'In the means, yes' if grows else 'No'}: {gains}."


def _gains_a_point(most: Column) -> tuple[str, str]:
    if most.gain.low > CLAIMED_GAIN:
        verdict = "More than that"
    elif most.gain.high < CLAIMED_GAIN:
        verdict = "Less than that"
    else:
        verdict = "Consistent with that"
    found = f"{verdict}: {gain(most.gain)} at S = {most.n_clusters}."
    return "The ensemble gains about one point over the base", found
