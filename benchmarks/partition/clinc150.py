"""CLINC150 (Larson et al. 2019) with a quick base: what benchmarks.partition.gains knows of 150 intents.

Features: hashed words, word pairs and pieces of words, weighed by rarity, their leading 256 singular directions. Base:
one hidden layer of 128 units. Specialists: copies whose head has the rows of their own intents, as in coterie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from torch import Tensor, nn

from coterie.backbones import Head
from coterie.backbones.specialist import make_specialist
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs

FEATURES, HIDDEN = 256, 128
BATCH = 128
BASE_EPOCHS, SPECIALIST_EPOCHS = 20, 15
HEAD = Head("3", HIDDEN, 150)


@dataclass(frozen=True, eq=False)
class Samples:
    """Features (N, 256) and intents (N,) of a split."""

    feature_ND: Tensor
    label_N: Tensor


@dataclass(frozen=True, eq=False)
class Intents:
    """The three splits, and the intents' names."""

    train: Samples
    validation: Samples
    test: Samples
    names: tuple[str, ...]


def load_intents(folder: Path) -> Intents:
    """Read the parquet files, and make features of their texts."""
    tables = {
        split: parquet.read_table(next(folder.glob(f"{split}-*.parquet"))).to_pydict()
        for split in ("train", "validation", "test")
    }
    names = tuple(sorted(set(tables["train"]["intent"])))
    number = {name: k for k, name in enumerate(names)}
    hashers = (
        HashingVectorizer(ngram_range=(1, 2), n_features=2**16, norm=None, alternate_sign=False),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=2**16, norm=None, alternate_sign=False),
    )
    hashed = {
        split: hstack([hasher.transform(table["text"]) for hasher in hashers]).tocsr()
        for split, table in tables.items()
    }
    weigh, squeeze = TfidfTransformer(sublinear_tf=True), TruncatedSVD(FEATURES, random_state=0)
    squeeze.fit(weigh.fit_transform(hashed["train"]))
    parts = {}
    for split, table in tables.items():
        feature_ND = squeeze.transform(weigh.transform(hashed[split])).astype(np.float32)
        feature_ND *= np.sqrt(FEATURES) / np.linalg.norm(feature_ND, axis=1, keepdims=True)
        labels = torch.tensor([number[intent] for intent in table["intent"]])
        parts[split] = Samples(torch.from_numpy(feature_ND), labels)
    return Intents(parts["train"], parts["validation"], parts["test"], names)


def train_base(intents: Intents, seed: int) -> nn.Sequential:
    """The base, on all intents."""
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(HIDDEN, len(intents.names)))
    fit_network(base, intents.train, BASE_EPOCHS, 3e-3)
    return base


def vectors(base: nn.Sequential) -> np.ndarray:
    """The head's rows, one for each intent."""
    rows: Tensor = base.get_parameter(f"{HEAD.path}.weight")
    return rows.detach().numpy()


def fit_network(network: nn.Module, samples: Samples, epochs: int, rate: float) -> nn.Module:
    """AdamW with a rate that falls to 0."""
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    steps = epochs * -(-len(samples.label_N) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(samples.label_N)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(samples.feature_ND[rows]), samples.label_N[rows]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def ensemble_outputs(intents: Intents, base: nn.Module, partition: Partition, seed: int) -> tuple[Outputs, Outputs]:
    """Train the specialists; all logits on validation and test."""
    torch.manual_seed(seed)
    splits = (intents.validation, intents.test)
    packed = [np.zeros((len(split.label_N), partition.n_classes), np.float32) for split in splits]
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster)
        if len(classes) == 1:
            continue
        local_C = torch.full((partition.n_classes,), -1)
        local_C[torch.from_numpy(classes.astype(np.int64))] = torch.arange(len(classes))
        label_N = local_C[intents.train.label_N]
        own = Samples(intents.train.feature_ND[label_N >= 0], label_N[label_N >= 0])
        network = fit_network(make_specialist(base, HEAD, classes), own, SPECIALIST_EPOCHS, 1e-3)
        for packed_NM, split in zip(packed, splits, strict=True):
            packed_NM[:, partition.columns(cluster)] = logits(network, split)
    validation, test = (
        Outputs(logits(base, split), packed_NM, split.label_N.numpy())
        for split, packed_NM in zip(splits, packed, strict=True)
    )
    return validation, test


@torch.no_grad()
def logits(network: nn.Module, samples: Samples) -> np.ndarray:
    """Of all samples."""
    return network(samples.feature_ND).numpy()
