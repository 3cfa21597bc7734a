"""Recipes: what specialists, partition and gate are where nobody said. What depends on the base, the pipeline adds."""

from __future__ import annotations

from typing import Any, Literal

from coterie.config.defaults import PROBE, PROBED

RecipeName = Literal["auto", "tails", "copy", "probe", "whole", "paper"]
TAILS, COPY, WHOLE, PAPER = "tails", "copy", "whole", "paper"
# The groups of settings that a recipe fills.
RECIPE_GROUPS = ("specialist", "partition", "gate")
# Within it specialists gain nearly all that they do without a limit (docs/what-helps.md).
GATE = {"passes": 1.5}
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    TAILS: {"gate": GATE},
    COPY: {"specialist": {"trainable": "all"}, "partition": {"clusters": [1]}, "gate": GATE},
    PROBE: {**PROBED, "specialist": {**PROBED["specialist"], "trainable": PROBE}},
    WHOLE: {"specialist": {"trainable": "all"}, "gate": GATE},
    # The method's source: whole networks, asked where the base's entropy is high, whose answer then stands.
    PAPER: {
        "specialist": {"trainable": "all", "epochs": 15},
        "gate": {"score": "entropy", "combiner": "hard"},
    },
}
