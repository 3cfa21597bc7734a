"""What is recorded of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class EpochRecord:
    """Means over an epoch's training steps: cross-entropy in nats, and accuracy as a share of 1."""

    loss: float
    accuracy: float

    def to_values(self) -> dict[str, float]:
        """As plain values for JSON."""
        return asdict(self)
