"""From the settings of a gate to what the tuning of a rule may choose from."""

from __future__ import annotations

from typing import Any

from coterie.config import GateSettings
from coterie.routing.gate import Budget
from coterie.routing.tune import COMBINERS, GATES, TOPS, TuningRequest
from coterie.vocabulary import ForecastRule

# Of a base that answers alone: nothing is routed, and there is no rule to choose.
ALONE: dict[str, Any] = {"score": "entropy", "combiner": "compose", "top": 1, "routed": 0.0}


def forecast_rule(settings: GateSettings) -> ForecastRule:
    """The rule that comes nearest to a run's combiner; all that mix base and specialists gain about the same."""
    combiner = settings.combiner
    return combiner if combiner == "hard" or combiner == "compose" else "blend"


def tuning_request(settings: GateSettings) -> TuningRequest:
    """The candidates that the settings leave open, and the budget that they set."""
    return TuningRequest(
        COMBINERS if settings.combiner == "auto" else (settings.combiner,),
        GATES if settings.score == "auto" else (settings.score,),
        TOPS if settings.top is None else (settings.top,),
        Budget(settings.passes, settings.routed, settings.risk, settings.threshold),
    )
