"""Bases that were fine-tuned from pretrained weights as arrays: labels, logits and features, computed once and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import softmax

from benchmarks.gains.fine_tuned import spectral
from coterie.arrays import FloatArray, IntArray
from coterie.backbones.base import Base
from coterie.data.flipped import FlippedImages
from coterie.data.splits import Splits
from coterie.partition import Partition
from coterie.pipeline.prepare import base_of_run, prepare
from coterie.routing.calibration import temperature
from coterie.run.folder import Run
from coterie.studies.comparison.untrained import mixing_weight
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_features, compute_logits

SPLITS = ("train", "validation", "test")
CLUSTERS = 5
Scores = Mapping[str, FloatArray]  # by split, (N, C)


@dataclass(frozen=True, eq=False)
class Pair:
    """A base with its data, as arrays by split: logits, the base's features, those from before it was fine-tuned."""

    label: Mapping[str, IntArray]
    base: Scores
    mirrored: Scores | None
    own: Scores
    before: Scores
    partition: Partition
    train_share: float
    won: list[int] = field(default_factory=list)  # true clusters in which their probes are ahead, and of how many

    @classmethod
    def of(cls, run: Run, kept: Path) -> "Pair":
        """Read from a file, or computed and kept."""
        splits, base = base_of_run(run)
        file = kept / f"{run.path.name}.npz"
        if not file.exists():
            kept.mkdir(parents=True, exist_ok=True)
            np.savez(file, allow_pickle=False, **_arrays(run, splits, base))
        arrays = np.load(file)
        label = {split: getattr(splits, split).labels_N.numpy() for split in SPLITS}
        parts = {
            kind: {split: arrays[f"{kind} {split}"] for split in SPLITS if f"{kind} {split}" in arrays}
            for kind in ("base", "own", "before", "mirrored")
        }
        partition = spectral(run, base, parts["base"]["validation"], label["validation"], CLUSTERS)
        # One pass over the training samples, in the base's training: a step is about three passes.
        share = 1 / (3 * run.settings.base.epochs)
        return cls(
            label,
            parts["base"],
            parts["mirrored"] or None,
            parts["own"],
            parts["before"],
            partition,
            share,
        )

    def top1(self, scores: Scores, split: str = "test") -> float:
        return 100 * float((scores[split].argmax(axis=1) == self.label[split]).mean())


def _arrays(run: Run, splits: Splits, base: Base) -> dict[str, FloatArray]:
    fabric = make_fabric(run.settings.hardware)
    before = prepare(run.settings, splits=splits).base
    found = {}
    for split in SPLITS:
        samples = getattr(splits, split).samples
        for kind, each in (("own", base), ("before", before)):
            found[f"{kind} {split}"] = compute_features(fabric, each.network, each.head, samples, splits.preprocessing)
        head = base.head.of(base.network)
        rows_CD, bias = head.weight.detach().numpy(), head.bias
        found[f"base {split}"] = found[f"own {split}"] @ rows_CD.T + (0 if bias is None else bias.detach().numpy())
        if splits.flip and split != "train":
            mirrored = FlippedImages(samples)
            found[f"mirrored {split}"] = compute_logits(fabric, base.network, mirrored, splits.preprocessing)
    return found


def mixed(pair: Pair, others: Sequence[Scores]) -> Scores:
    """The base's probabilities and others', each at its temperature, with the weights of least validation log loss."""
    label_N = pair.label["validation"]

    def at_temperature(scores: Scores) -> Scores:
        scale = temperature(scores["validation"], label_N)
        return {split: softmax(scores[split] / scale, axis=1) for split in ("validation", "test")}

    now = at_temperature(pair.base)
    for other in map(at_temperature, others):
        weight = mixing_weight(now["validation"], other["validation"], label_N)
        now = {split: (1 - weight) * now[split] + weight * other[split] for split in now}
    return {split: np.log(now[split] + 1e-12) for split in now}
