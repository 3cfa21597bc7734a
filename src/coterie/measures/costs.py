"""What a run costs: training, inference, weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunCosts:
    """What base and specialists cost: seconds of training, milliseconds per sample, numbers of weights.

    ``specialist_*`` are sums over all specialists. ``ensemble_image_ms``: None where the rule has changed since it was
    timed.
    """

    base_seconds: float
    specialist_seconds: float
    base_image_ms: float
    ensemble_image_ms: float | None
    base_parameters: int
    specialist_parameters: int
