"""The figures of an ensemble on labelled samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from coterie.measures.balance import Balance


@dataclass(frozen=True)
class ClusterRow:
    """Accuracies on the samples whose true class a cluster holds, as shares of 1.

    ``base``: over all classes; ``restricted``: the base among the cluster's classes; ``specialist``: the specialist.
    """

    cluster: int
    classes: tuple[int, ...]
    n_samples: int
    base_top1: float
    restricted_top1: float
    specialist_top1: float
    base_top3: float
    restricted_top3: float
    specialist_top3: float


@dataclass(frozen=True)
class Curve:
    """Accuracy and routed fraction at each threshold of the gate, thinned for drawing; fields have equal length."""

    threshold: tuple[float, ...]
    routed: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """The figures of an ensemble on labelled samples of one split. Accuracies are shares of 1.

    ``router_accuracy``: share of samples whose likeliest cluster holds the true class. ``oracle_restricted``,
    ``oracle_specialist``: base and specialist among the true cluster's classes, were it known. ``gain_low``,
    ``gain_high``: paired 95 % interval of the gain. ``mean_passes``: forward passes per sample. ``corrected``,
    ``spoiled``: samples that only the ensemble, and only the base, answers rightly. ``balance``: None in reports of
    earlier versions.
    """

    n_samples: int
    base_top1: float
    base_top3: float
    ensemble_top1: float
    ensemble_top3: float
    gain: float
    gain_low: float
    gain_high: float
    routed_fraction: float
    mean_passes: float
    router_accuracy: float
    oracle_restricted: float
    oracle_specialist: float
    threshold: float | None
    corrected: int
    spoiled: int
    clusters: tuple[ClusterRow, ...]
    curve: Curve
    balance: Balance | None = None

    def with_errors(self, n_more: int) -> tuple[float, float]:
        """Accuracy of base and ensemble where so many more samples count as errors of both."""
        share = self.n_samples / (self.n_samples + n_more)
        return self.base_top1 * share, self.ensemble_top1 * share

    def to_values(self) -> dict[str, Any]:
        """As nested plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Report:
        """The inverse of ``to_values``."""
        rows = tuple(ClusterRow(**{**row, "classes": tuple(row["classes"])}) for row in values["clusters"])
        curve = Curve(**{name: tuple(points) for name, points in values["curve"].items()})
        balance = None if values.get("balance") is None else Balance.from_values(values["balance"])
        return cls(**{**values, "clusters": rows, "curve": curve, "balance": balance})
