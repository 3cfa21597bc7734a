"""Settings of specialists, partition and gate that nobody gave: plain values, by what the base is and what is to be
spent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Size, nn

from coterie.backbones.base import Base
from coterie.backbones.by_name import is_passed
from coterie.backbones.cut import tail_of, trunk_features
from coterie.backbones.flops import inference_flops
from coterie.backbones.moments import plain_layers
from coterie.backbones.parts import last_parts, trained_part
from coterie.config import AUTO, EXACT_BITS, PROBE, FitSettings, merged
from coterie.config.defaults import EPOCHS as FINE_TUNED_EPOCHS
from coterie.config.defaults import trains_gently
from coterie.config.recipes import COPY, PAPER, RECIPE_GROUPS, RECIPES, TAILS, WHOLE
from coterie.config.stages import FEWEST_BITS, MOST_BITS
from coterie.data.splits import Splits
from coterie.errors import SettingsError
from coterie.pages.format import decimal
from coterie.system.units import how_many, share_or_seconds
from coterie.training.linear_probe import can_be_probed

# Of the base's pass: two tails asked for half of the samples, or one for all, are within 1.5 passes.
LARGEST_TAIL = 0.5
# Of tails; of whole specialists the first. The second partition is another opinion (docs/what-helps.md).
CLUSTERS = (9, 3)
# Below so many classes, clusters of less than two would be many; of fewer than the second number there are none.
FEW_CLASSES, FEWEST_CLASSES = 18, 4
# A whole network is trained at a lower rate than the base was, or it forgets; a tail is not.
WHOLE_RATE = 0.25
# More views gain more (docs/what-helps.md): as many as fit into memory, were half of the samples in one
# cluster. Of a larger one, those that do not are computed again.
MOST_VIEWS = 4
LARGEST_CLUSTER = 0.5
# Epochs; with fewer for each of two partitions, one is trained for longer.
LEAST_OF_PAIR = 5.0
# Of the base's errors. Where most lie outside the likeliest cluster, as of a base that knows little yet, a tail of all
# classes gains more than tails of clusters (benchmarks/gains/recipes.md).
LEAST_OPEN = 0.5
HALF = 0.5
# More change next to nothing where most of the weights are rounded by moments (benchmarks/gains/rounding.md).
ENOUGH_BITS, MOSTLY = 1.8, 0.8
# Of a tensor in a file: its name, type and place, in numbers of four bytes.
NAMED = 23
TINY = 1e-9
# With one of these the user has said how much is routed.
LIMITS = {"threshold", "passes", "routed", "risk"}
OPTIONS = "overruled by --recipe, --budget, --storage, --gate.passes, or any of --help-all"
# A forward pass in a training step: the backward pass takes about twice its operations.
FORWARD = 1 / 3


def with_recipe(
    settings: FitSettings, base: Base, splits: Splits, seconds: Callable[[], float]
) -> tuple[FitSettings, str]:
    """Settings whose specialists, partition and gate have plain values, and what was chosen; empty where all were
    given.

    Args:
        settings: of the run; what they name stays.
        base: as it stands before the run.
        splits: of the run.
        seconds: measures how long an epoch of the base's training takes.

    Raises:
        SettingsError: a recipe that this base cannot have, or a budget or storage that holds no specialist.
    """
    groups = (getattr(settings, group) for group in RECIPE_GROUPS)
    if all(group.model_fields_set == set(type(group).model_fields) for group in groups):
        return settings, ""
    return _Recipe(settings, base, splits, seconds).filled()


def usual_clusters(n_classes: int) -> int:
    """How many clusters of so many classes, at least ``FEWEST_CLASSES``, a recipe has where no option says."""
    return CLUSTERS[0] if n_classes >= FEW_CLASSES else n_classes // 2


@dataclass(frozen=True)
class _Part:
    """A part of the base that specialists train, as ``trainable`` names it, with its operations in those of the base;
    ``network`` that has its weights; ``input_bytes`` of the trunk's output for a sample, 0 where there is no trunk.
    """

    name: str
    network: nn.Module
    cost: float = 1.0
    input_bytes: int = 0


@dataclass(frozen=True, eq=False)
class _Recipe:
    """Fills a recipe in."""

    settings: FitSettings
    base: Base
    splits: Splits
    seconds: Callable[[], float]

    def filled(self) -> tuple[FitSettings, str]:
        """The settings, and what was chosen."""
        name, given = self.name, self.settings.given()
        if name == PROBE:
            said = f"recipe {name}: the network as it was before its fine-tuning, with a head that is fitted to it"
            return self._with(RECIPES[PROBE]), f"{said} ({OPTIONS})"
        trained = {**self._rates(), "trainable": self.part.name}
        values = merged(RECIPES[name], {"specialist": trained, "partition": self._partition()})
        values["gate"] = {} if LIMITS & given.get("gate", {}).keys() else values.get("gate", {})
        clusters = given.get("partition", {}).get("clusters", values["partition"]["clusters"])
        values["specialist"] = {**values["specialist"], **self._spent(clusters)}
        settings = self._with(values)
        return settings, self._said(settings)

    def _with(self, values: Mapping[str, Mapping[str, Any]]) -> FitSettings:
        given = self.settings.given()
        groups = {group: {**values.get(group, {}), **given.get(group, {})} for group in RECIPE_GROUPS}
        return FitSettings.from_values({**given, **groups, "recipe": self.name})

    @cached_property
    def name(self) -> str:
        """The recipe that was asked for, or the one for this base."""
        asked, trainable = self.settings.recipe, self.settings.specialist.given().get("trainable")
        if asked == TAILS and trainable is None and self._tail is None:
            raise SettingsError(
                f"recipe = {TAILS!r}: {self.settings.backbone} has no end but its head that takes at most "
                f"{LARGEST_TAIL:g} of its operations; allowed: {COPY}, {WHOLE}, {PAPER}, or --specialist.trainable"
            )
        if asked != AUTO:
            return asked
        if trainable is not None:
            return {PROBE: PROBE, "all": WHOLE}.get(trainable, TAILS)
        can_be_made_anew = self.settings.init is not None and not is_passed(self.settings.backbone)
        if can_be_made_anew and can_be_probed(self.base.network, self.base.head):
            return PROBE
        if self._tail is not None:
            return TAILS
        return WHOLE if self.settings.partition.given() else COPY

    @cached_property
    def part(self) -> _Part:
        """What specialists train."""
        trainable = self.settings.specialist.given().get("trainable")
        if trainable is None and self.name == TAILS and self._tail is not None:
            return self._tail
        if trainable in {None, "all"}:
            return _Part("all", self.base.network)
        network, example = self.base.network.eval(), self.splits.preprocessing.example()
        part = trained_part(network, self.base.head, example, str(trainable))
        name = str(trainable)
        return _Part(name, network) if part.cut is None else self._measured(name, part.cut)

    @cached_property
    def _tail(self) -> _Part | None:
        """The largest end of the network that takes at most ``LARGEST_TAIL`` of its operations; None where that is
        nothing but the head.
        """
        found = None
        for name, cut in last_parts(self.base.network.eval(), self.base.head, self.splits.preprocessing.example()):
            part = self._measured(name, cut)
            if part.cost > LARGEST_TAIL:
                break
            found = part
        return found

    def _measured(self, name: str, cut: str) -> _Part:
        network, example = self.base.network.eval(), self.splits.preprocessing.example()
        features, tail = trunk_features(network, cut, example[:1]), tail_of(network, cut, example)
        cost = inference_flops(tail, features) / inference_flops(network, example[:1])
        return _Part(name, tail, cost, features.nbytes)

    @property
    def _gently(self) -> bool:
        """Whether the defaults of fine-tuning hold for specialists."""
        return trains_gently(self.settings.given())

    def _rates(self) -> dict[str, Any]:
        """As the base was trained, where it was trained here from fresh weights."""
        if self.base.trained or self._gently:
            return {}
        base = self.settings.base
        factor = WHOLE_RATE if self.name in {WHOLE, PAPER} else 1.0
        names = ("optimizer", "momentum", "weight_decay", "batch_size", "clip_norm")
        same = {name: getattr(base, name) for name in names}
        return {**same, "schedule": "cosine", "learning_rate": factor * base.learning_rate}

    def _partition(self) -> dict[str, Any]:
        """Clusters of a method that leaves their number open."""
        n_classes, given = len(self.splits.labels), self.settings.partition.given()
        if self.name == COPY or n_classes < FEWEST_CLASSES:
            return {"clusters": [1]}
        many = usual_clusters(n_classes)
        if self.name != TAILS or given:
            return {"clusters": [many]}
        few = min(many, CLUSTERS[1])
        tried: list[tuple[int, ...]] = [(many,), (few,)]
        if many > few and self._epochs(len(CLUSTERS)) >= LEAST_OF_PAIR:
            tried = [(many, few), *tried]
        # The first that the storage has room for.
        clusters = next((one for one in tried if self._bits_left(one) >= FEWEST_BITS), tried[-1])
        return {"clusters": list(clusters), "together": len(clusters) > 1, "least_open": LEAST_OPEN}

    def _spent(self, clusters: Sequence[int]) -> dict[str, Any]:
        """Epochs by the budget, and bits by the storage; the paper knew neither."""
        if self.name == PAPER:
            return {}
        found: dict[str, Any] = {"bits": self._bits(clusters)}
        if self.part.input_bytes:
            found["views"] = self._views
        if self._gently and "budget" not in self.settings.model_fields_set:
            return found
        epochs = self._epochs(len(clusters))
        if epochs < HALF and "budget" in self.settings.model_fields_set:
            least = self._share * (1 + (HALF - epochs) * self._epoch_cost * len(clusters) / (self._share * self._of))
            raise SettingsError(
                f"budget = {self.settings.budget!r}: an epoch of the specialists takes more; allowed: at least "
                f"{least:.2f} of the base's training"
            )
        return {**found, "epochs": max(1, round(epochs))}

    def _epochs(self, n_partitions: int) -> float:
        """Of all specialists of so many partitions, for the budget."""
        kept = self._views * (1 - self.part.cost) * FORWARD if self.part.input_bytes else 0.0
        return (self._share * self._of / n_partitions - kept) / self._epoch_cost

    @property
    def _epoch_cost(self) -> float:
        """Of an epoch of the base's training, where the trunk's outputs are kept, or computed in each epoch."""
        anew = 0.0 if self._views and self.part.input_bytes else (1 - self.part.cost) * FORWARD
        return self.part.cost + anew

    @property
    def _of(self) -> int:
        """Epochs of the base's training; for one that came trained, of a fine-tuning."""
        trained = self.base.trained and self._gently
        return FINE_TUNED_EPOCHS if trained else self.settings.base.epochs

    @cached_property
    def _share(self) -> float:
        """The budget, of the base's training."""
        amount, is_share = share_or_seconds(self.settings.budget)
        return amount if is_share else amount / max(self.seconds() * self._of, TINY)

    @cached_property
    def _views(self) -> int:
        """As many as fit into memory; none where a cluster of all samples would not fit with one."""
        given = self.settings.specialist.given()
        if "views" in given:
            return int(given["views"])
        fit = self.settings.data.memory_gib * 2**30 / (len(self.splits.train) * max(1, self.part.input_bytes))
        return 0 if fit < 1 else min(MOST_VIEWS, int(fit / LARGEST_CLUSTER))

    def _bits(self, clusters: Sequence[int]) -> float:
        """Of each weight's difference, such that all specialists fit into the storage beside the base.

        Raises:
            SettingsError: they do not, in as few bits as there may be.
        """
        bits = self._bits_left(clusters)
        if bits == EXACT_BITS:
            return EXACT_BITS
        coded = max(1, sum(map(math.prod, self._matrices)))
        # A network so small that names are most of its file is not refused for them.
        of_names = EXACT_BITS * self._names / coded
        if bits + of_names < FEWEST_BITS and "storage" in self.settings.model_fields_set:
            more = (FEWEST_BITS - bits) / EXACT_BITS * coded * sum(clusters) / self._whole
            raise SettingsError(
                f"storage = {self.settings.storage:g}: {how_many(sum(clusters), 'specialist')} take more; allowed: at "
                f"least {self.settings.storage + more:.2f} times the base's, or fewer clusters"
            )
        by_moments = sum(layer.weight.numel() for layer in plain_layers(self.part.network).values())
        most = ENOUGH_BITS if by_moments > MOSTLY * coded else MOST_BITS
        return max(FEWEST_BITS, min(most, math.floor(100 * bits) / 100))

    def _bits_left(self, clusters: Sequence[int]) -> float:
        """Of each number of the specialists' matrices, beside all else that the storage holds; all where they fit as
        they are.
        """
        # Differences of matrices are coded, with a step a row; steps, vectors and heads take half of the base's bits.
        tensors, matrices, head = self._shapes, self._matrices, self._head
        vectors = sum(math.prod(shape) for shape in tensors if len(shape) < 2) - head[0]
        coded, steps = sum(map(math.prod, matrices)), sum(shape[0] for shape in matrices)
        room, heads = (self.settings.storage - 1) * self._whole, len(clusters) * (math.prod(head) + head[0])
        exact = coded + vectors + NAMED * len(tensors)
        if sum(clusters) * exact + heads <= room or self.part.name.startswith("lora"):
            return EXACT_BITS
        return EXACT_BITS * ((room - heads / 2) / sum(clusters) - (vectors + steps) / 2 - self._names) / max(1, coded)

    @cached_property
    def _head(self) -> Size:
        return self.base.head.of(self.base.network).weight.shape

    @cached_property
    def _shapes(self) -> list[Size]:
        """Of all that is kept of a specialist."""
        return [tensor.shape for tensor in self.part.network.state_dict().values()]

    @property
    def _matrices(self) -> list[Size]:
        """Those of them that are differences from the base's."""
        return [shape for shape in self._shapes if len(shape) > 1 and shape != self._head]

    @property
    def _names(self) -> int:
        """What names take in a specialist's file; a matrix has two, of its codes and its steps."""
        return NAMED * (len(self._shapes) + len(self._matrices))

    @cached_property
    def _whole(self) -> int:
        """Numbers in the base's file, names among them."""
        tensors = self.base.network.state_dict().values()
        return sum(tensor.numel() for tensor in tensors) + NAMED * len(tensors)

    def _said(self, settings: FitSettings) -> str:
        specialist, partition = settings.specialist, settings.partition
        clusters = " and ".join([*map(str, partition.clusters[:-1]), how_many(partition.clusters[-1], "cluster")])
        epochs = how_many(specialist.epochs, "epoch")
        kept = "" if specialist.bits == EXACT_BITS else f", kept in {decimal(specialist.bits, 1)} bits a weight"
        part = "the whole network" if self.part.name == "all" else f"its {self.part.name}"
        passes = "" if settings.gate.passes is None else f", at most {settings.gate.passes:g} passes"
        return (
            f"recipe {self.name}: copies of the base trained on ({part}), of {clusters}, "
            f"{epochs} at a learning rate of {specialist.learning_rate:g}{kept}{passes} ({OPTIONS})"
        )
