"""The figures of a partition as rows of a table, for page and terminal."""

from __future__ import annotations

from coterie.pages.format import decimal, percent, points
from coterie.partition.quality import Quality


def quality_rows(quality: Quality) -> list[tuple[str, str, str]]:
    """Title, value and meaning of each figure that is there."""
    kept = quality.confusion_kept_at_random
    at_random = "" if kept is None else f" (random clusters of these sizes: {percent(kept, 1)})"
    rows = (
        (
            "confusion kept inside",
            _percent(quality.confusion_kept),
            f"of the validation errors, true and predicted class share a cluster{at_random}",
        ),
        ("router accuracy", _percent(quality.router_accuracy), "the likeliest cluster holds the true class"),
        (
            "gain forecast",
            "" if quality.gain_forecast is None else points(quality.gain_forecast),
            "points over the base, by the paper's rule",
        ),
        ("silhouette", _index(quality.silhouette), "in cosine, from -1 to 1; higher is tighter"),
        ("adjusted Rand index", _index(quality.rand_index), "agreement with the given groups; 1 is the same"),
        ("mutual information", _index(quality.mutual_information), "the same, normalised"),
        ("stability over seeds", _index(quality.seed_stability), "mean Rand index to other seeds' partitions"),
        ("stability, bootstrap", _index(quality.bootstrap_stability), "the same, over resampled dimensions"),
    )
    return [row for row in rows if row[1]]


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share, 1)


def _index(value: float | None) -> str:
    return "" if value is None else decimal(value, 3)
