"""Defaults that differ from those of a convolutional network with fresh weights: of a base that is fine-tuned and its
specialists, and of networks on n-grams and on vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coterie.config.settings import Settings
from coterie.errors import SettingsError

# A large rate would undo what the weights know before the new head says anything; so it is small, rises slowly, and is
# larger for the head alone.
EPOCHS = 10
BASE = {
    "epochs": EPOCHS,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 3e-4,
    "head_rate": 5.0,
    "weight_decay": 0.05,
    "schedule": "one-cycle",
    "warmup_share": 0.1,
    "label_smoothing": 0.1,
    "clip_norm": 1.0,
    "average_decay": 0.99,
    "average_warmup": True,
    "mixup": 0.1,
}
# Specialists start from the fine-tuned base, and soon know the training samples of their classes by heart.
SPECIALIST = {
    "epochs": 3,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "clip_norm": 1.0,
    # A cluster's few batches say less of the statistics than all that the base has seen.
    "batch_norm": "frozen",
}
PROBE = "probe"
# A probe is fitted, not trained in steps; a head of all classes says as much as heads of clusters, of one network. With
# a limit, the most accurate rule within it is chosen; without one the cheapest that is as good within the noise.
PROBED: dict[str, dict[str, Any]] = {
    "specialist": {"epochs": 1},
    "partition": {"clusters": (1,)},
    "gate": {"passes": 1.5},
}
DATA = {"augment": "photo"}
LIBRARIES = ("timm", "torchvision")
# Transformers take smaller steps than convolutional networks, and their heads have smaller inputs.
TRANSFORMERS = {"learning_rate": 1e-4, "head_rate": 10.0}

# An embedding is one of a text's hundred, in whose mean its gradient is as small; short texts have large ones
# (benchmarks/gains/ngram_rates.md).
NGRAMS = {"learning_rate": 2.0, "clip_norm": 1.0}
# A hidden layer of features, of few samples a class (benchmarks/gains/vector_rates.md).
VECTORS = {"learning_rate": 0.05}
# Its steps do not grow with the gradient: SGD's rate would throw the weights about (benchmarks/gains/adamw_rates.md).
ADAMW = {"learning_rate": 3e-3}


def differing(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The defaults that differ, by the group of settings: of all that is trained where the base starts from other
    weights than fresh ones; of specialists alone where it is a network of a library that comes trained, or where they
    are probes; of the base alone where it is one of n-grams or of vectors; of what AdamW trains.

    Raises:
        SettingsError: SGD is to fine-tune, at no rate of its own.
    """
    found = _of_start(values)
    for group in ("base", "specialist"):
        usual, asked = found.get(group, {}).get("optimizer"), named(values, group).get("optimizer")
        if asked == "adamw" and usual is None:
            found = {**found, group: {**found.get(group, {}), **ADAMW}}
        if asked == "sgd" and usual == "adamw" and "learning_rate" not in named(values, group):
            raise SettingsError(
                f"{group}.optimizer = 'sgd' needs {group}.learning_rate: that of fine-tuning, "
                f"{found[group]['learning_rate']:g}, is AdamW's"
            )
    if named(values, "specialist").get("trainable") != PROBE:
        return found
    return {**found, **PROBED, "specialist": {**found.get("specialist", {}), **PROBED["specialist"]}}


def named(values: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """What was named of a group of settings, or of plain values."""
    found = values.get(group)
    if isinstance(found, Settings):
        return {name: getattr(found, name) for name in found.model_fields_set}
    return found if isinstance(found, Mapping) else {}


def trains_gently(values: Mapping[str, Any]) -> bool:
    """Whether specialists have the defaults of fine-tuning."""
    return "specialist" in _of_start(values)


def _of_start(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    library, _, name = str(values.get("backbone")).partition(":")
    if values.get("init") is not None and values.get("weights") is None:
        base = {**BASE, **TRANSFORMERS} if name and library == "transformers" else BASE
        return {"base": base, "specialist": SPECIALIST, "data": DATA}
    trained = library == "transformers" or (library in LIBRARIES and values.get("weights") is not None)
    if name and trained:
        return {"specialist": SPECIALIST}
    if library.startswith(("mlp-", "table-mlp-")):
        return {"base": VECTORS}
    return {"base": NGRAMS} if library.startswith("ngram-") else {}
