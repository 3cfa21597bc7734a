"""What a finished run costs: in training, in passes, on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from coterie.arrays import FloatArray
from coterie.backbones.cut import trunk_features
from coterie.backbones.flops import inference_flops, training_flops
from coterie.config import PROBE
from coterie.data.splits import Splits
from coterie.run.contents import read_history
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.run.names import BASE_FILE, specialist_titles
from coterie.run.values import n_tried, partition_of, pass_cost_of, weight_bytes
from coterie.studies.comparison.tables import ContenderCost


@dataclass(frozen=True, eq=False)
class CostModel:
    """Of an ensemble, in the base's: all training, one pass of each cluster's specialist (S,), size on disk.
    ``base_pass``: the operations of the base's.
    """

    training: float
    pass_S: FloatArray
    storage: float
    base_pass: float

    @classmethod
    def of(cls, run: Run, splits: Splits, trust: str | None = None) -> CostModel:
        """Count the operations of a finished run's networks.

        Raises:
            ArtifactError: as ``load_ensemble``, with this ``trust``.
        """
        settings, partition = run.settings, partition_of(run.manifest)
        ensemble = load_ensemble(run.path, trust=trust)
        example = ensemble.preprocessing.example()[:1]
        images_C = torch.bincount(splits.train.labels_N, minlength=partition.n_classes).numpy()
        base_training = training_flops(ensemble.base, example) * images_C.sum() * settings.base.epochs
        base_pass = inference_flops(ensemble.base, example)
        own_training, pass_S = 0.0, np.zeros(partition.n_clusters)
        inputs = example if ensemble.cut is None else trunk_features(ensemble.base, ensemble.cut, example)
        specialist = settings.specialist_of(partition.n_clusters)
        trunk_passes = specialist.kept_views or specialist.epochs
        trunk = trunk_passes * base_pass * (1 - pass_cost_of(run.manifest))
        history, titles = read_history(run), specialist_titles(partition)
        for name, network in ensemble.specialists.items():
            n_images = images_C[partition.classes(int(name))].sum()
            # Fewer than were allowed, where it stopped early.
            epochs = len(history.get(titles[int(name)], ())) or specialist.epochs
            operations = inference_flops if specialist.trainable == PROBE else training_flops
            own_training += (operations(network, inputs) * epochs + trunk) * n_images
            pass_S[int(name)] = inference_flops(network, inputs) / base_pass
        # Specialists of other partitions that were tried are gone; theirs took what those took that were kept.
        training = base_training + n_tried(run.manifest) * own_training
        storage = weight_bytes(run.manifest) / run.manifest.files[BASE_FILE].bytes
        return cls(training / base_training, pass_S, storage, base_pass)

    def cost(self, runs_S: FloatArray) -> ContenderCost:
        """Where the specialists are run for a share ``runs_S`` of the samples each."""
        return ContenderCost(self.training, 1 + float(self.pass_S @ runs_S), self.storage)
