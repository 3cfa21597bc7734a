"""A linear probe: a network whose head alone is fitted, by logistic regression, to what it says of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones import Head
from coterie.data.splits import Split
from coterie.errors import BackboneError
from coterie.inputs import Preprocessing, Samples
from coterie.measures.epochs import EpochRecord
from coterie.progress import SILENT, Progress
from coterie.training.passes import compute_features, n_batches

# Of the squares of the weights, beside the sum of the samples' losses, where each feature has a deviation of 1. From 10
# to 1000 the accuracy changes by half a point (benchmarks/gains/second_opinions.md).
PENALTY = 100.0
MOST_STEPS = 200
TINY = 1e-6
# Samples of its class that a name counts for; from 1 to 6 it is much the same (benchmarks/gains/names.md).
NAME_WEIGHT = 3.0


@dataclass(frozen=True, eq=False)
class ClassNames:
    """The names of the K classes that a probe tells apart, as ``texts``; on ``judge``, samples with labels from 0 to
    K - 1, it is seen whether they help.
    """

    texts: Sequence[str]
    judge: Split


def can_be_probed(network: nn.Module, head: Head) -> bool:
    """Whether the head is one linear layer with a bias."""
    layer = dict(network.named_modules()).get(head.path)
    return isinstance(layer, nn.Linear) and layer.bias is not None and not head.more


def check_probed(network: nn.Module, head: Head) -> None:
    """Whether a probe can be fitted.

    Raises:
        BackboneError: the head is not one linear layer with a bias.
    """
    if not can_be_probed(network, head):
        raise BackboneError(
            f"specialist.trainable = probe needs a head that is one linear layer with a bias; {head.path} of "
            f"{type(network).__name__} is none"
        )


def fit_probe(
    fabric: Fabric,
    network: nn.Module,
    head: Head,
    split: Split,
    preprocessing: Preprocessing,
    progress: Progress = SILENT,
    title: str = "probe",
    names: ClassNames | None = None,
) -> EpochRecord:
    """Fit the head of a network in place; the samples pass through it once. A network that reads texts knows the words
    in the names of the classes, which are then samples too, if the loss on others is lower with them.

    Args:
        fabric: device and precision.
        network: inputs to K logits, of which nothing but the head is changed.
        head: of the network.
        split: training samples, whose labels are 0 to K - 1.
        preprocessing: from sample to input.
        progress: told of a stage.
        title: of that stage.
        names: of the classes, where they are texts such as the samples are.

    Returns:
        Loss and accuracy on these samples.

    Raises:
        BackboneError: as ``check_probed``.
    """
    check_probed(network, head)
    parts: list[Samples] = [split.samples]
    if names is not None:
        parts += [preprocessing.samples(list(names.texts)), names.judge.samples]
    progress.stage(title, sum(n_batches(samples, preprocessing) for samples in parts))
    features_ND, *others = (
        compute_features(fabric, network, head, samples, preprocessing, progress) for samples in parts
    )
    label_N = split.labels_N.numpy()
    fitted = logistic_regression(features_ND, label_N)
    if names is not None:
        name_KD, judged_ND = others
        named = logistic_regression(features_ND, label_N, name_KD)
        plain_loss, named_loss = (_loss(judged_ND, names.judge.labels_N, *each[:2]) for each in (fitted, named))
        if named_loss < plain_loss:
            fitted = named
            progress.note(
                f"{title}: the names of the classes are learned from too, which lowers the loss on validation"
            )
    weight_KD, bias_K, record = fitted
    network.get_submodule(head.path).load_state_dict(
        {"weight": torch.from_numpy(weight_KD), "bias": torch.from_numpy(bias_K)}
    )
    return record


def fitted_head(
    fabric: Fabric,
    network: nn.Module,
    head: Head,
    train: Split,
    validation: Split,
    preprocessing: Preprocessing,
    progress: Progress = SILENT,
) -> tuple[dict[str, Tensor], FloatArray, FloatArray]:
    """A head that is fitted to a network's features of training samples, as a state_dict of its layer; its logits
    (N, C) of the validation samples, and those of the head that the network has, which is left as it is.

    Args:
        fabric: device and precision.
        network: inputs to C logits.
        head: of the network.
        train: samples of all C classes, which pass through the network once.
        validation: samples to answer.
        preprocessing: from sample to input.
        progress: told of a stage.

    Raises:
        BackboneError: as ``check_probed``.
    """
    check_probed(network, head)
    splits = (train, validation)
    progress.stage("fitted head", sum(n_batches(split.samples, preprocessing) for split in splits))
    features_ND, asked_ND = (
        compute_features(fabric, network, head, split.samples, preprocessing, progress) for split in splits
    )
    weight_CD, bias_C, _ = logistic_regression(features_ND, train.labels_N.numpy())
    state = {"weight": torch.from_numpy(weight_CD), "bias": torch.from_numpy(bias_C)}
    own = head.of(network)
    own_CD, own_C = (tensor.detach().float().cpu().numpy() for tensor in (own.weight, own.bias))
    return state, asked_ND @ weight_CD.T + bias_C, asked_ND @ own_CD.T + own_C


def _loss(features_ND: FloatArray, labels_N: Tensor, weight_KD: FloatArray, bias_K: FloatArray) -> float:
    """Cross-entropy, the mean over samples."""
    return float(nn.functional.cross_entropy(torch.from_numpy(features_ND @ weight_KD.T + bias_K), labels_N))


def logistic_regression(
    features_ND: FloatArray, label_N: IntArray, name_KD: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, EpochRecord]:
    """Weights (K, D) and biases (K,) for features as they are, and loss and accuracy on them; all K are there.

    Args:
        features_ND: of the samples.
        label_N: their classes.
        name_KD: features of the classes' names, each of which counts for ``NAME_WEIGHT`` samples.
    """
    from sklearn.linear_model import LogisticRegression

    mean_D, std_D = features_ND.mean(axis=0), features_ND.std(axis=0) + TINY
    learned_ND, learned_N, weight_N = (features_ND - mean_D) / std_D, label_N, None
    if name_KD is not None:
        learned_ND = np.concatenate([learned_ND, (name_KD - mean_D) / std_D])
        learned_N = np.concatenate([label_N, np.arange(len(name_KD))])
        weight_N = np.repeat([1.0, NAME_WEIGHT], [len(label_N), len(name_KD)])
    regression = LogisticRegression(C=1 / PENALTY, max_iter=MOST_STEPS)
    found = regression.fit(learned_ND, learned_N, sample_weight=weight_N)
    rows_KD, bias_K = found.coef_, found.intercept_
    if len(rows_KD) == 1:  # of two classes, it has the difference of their logits
        rows_KD, bias_K = np.concatenate([-rows_KD, rows_KD]) / 2, np.concatenate([-bias_K, bias_K]) / 2
    weight_KD = (rows_KD / std_D).astype(np.float32)
    bias_K = (bias_K - (rows_KD / std_D) @ mean_D).astype(np.float32)
    said_N = (features_ND @ weight_KD.T + bias_K).argmax(axis=1)
    loss = _loss(features_ND, torch.from_numpy(label_N), weight_KD, bias_K)
    return weight_KD, bias_K, EpochRecord(loss, float((said_N == label_N).mean()))
