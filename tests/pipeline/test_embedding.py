"""What label embeddings are made of, where validation lacks a class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from coterie.backbones import Head
from coterie.config import HardwareSettings
from coterie.data.splits import Split, Splits
from coterie.inputs import FeaturePreprocessing, MemorySamples, Scale
from coterie.labels import LabelSpace
from coterie.partition.embedding import LabelEmbedding
from coterie.pipeline.embedding import label_sources
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_features


def features() -> Splits:
    """Three classes, of which validation lacks the last."""
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32))
    label_N = torch.arange(30) % 3
    train, test = (Split(MemorySamples(values[rows]), label_N[rows]) for rows in (slice(0, 18), slice(24, 30)))
    validation = Split(MemorySamples(values[18:24]), label_N[18:24] % 2)
    form = FeaturePreprocessing(Scale((0.0,) * 4, (1.0,) * 4))
    return Splits(train, validation, test, LabelSpace(("a", "b", "c")), form, "made")


def test_classes_that_validation_lacks_are_known_by_their_training_samples() -> None:
    splits, fabric = features(), make_fabric(HardwareSettings(accelerator="cpu"))
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    head = Head("1", 5, 3)
    validation_NC = np.zeros((6, 3), np.float32)
    found = label_sources(fabric, splits, network, head, validation_NC, "means")
    lacking = splits.train.labels_N == 2
    rows = torch.cat([splits.validation.samples.values_N, splits.train.samples.values_N[lacking]])
    feature_ND = compute_features(fabric, network, head, MemorySamples(rows), splits.preprocessing)
    label_N = np.concatenate([splits.validation.labels_N.numpy(), np.full(int(lacking.sum()), 2)])
    expected = LabelEmbedding.from_class_means(feature_ND, label_N, 3).vectors_CD
    np.testing.assert_allclose(found.embed("means").vectors_CD, expected, rtol=1e-5)
    assert found.embed("confusion").vectors_CD.shape == (3, 3)
    # What the head's rows give needs no samples, and a complete validation split no others.
    assert len(label_sources(fabric, splits, network, head, validation_NC, "head").label_N) == 6
    whole = replace(splits, validation=splits.test)
    assert len(label_sources(fabric, whole, network, head, validation_NC, "means").label_N) == 6
