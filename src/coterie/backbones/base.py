"""The base: built by name or passed from Python, with its head found and its classes in the order of the data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones import Head, LogitsOf, build, find_head, logit_parts, replace_head
from coterie.backbones.confined import confined, refuse_foreign, without_places
from coterie.backbones.libraries import (
    TRANSFORMERS,
    build_transformers,
    is_function,
    load_transformers,
    read_tokens,
)
from coterie.backbones.output import Part
from coterie.backbones.parts import WHOLE, TrainedPart
from coterie.backbones.text_classifier import TextClassifier
from coterie.backbones.weights import load_weights
from coterie.config import FitSettings
from coterie.errors import ArtifactError, BackboneError, SettingsError
from coterie.inputs import Preprocessing
from coterie.label_file import read_column
from coterie.labels import LabelSpace

# A base whose classes are in another order than the data's is found out by what it confuses, if that is this clear.
CLEARLY = 0.05


@dataclass(frozen=True)
class NetworkForm:
    """What is needed, besides its name and weights, to build a network again.

    Attributes:
        output: key, attribute or position of the logits in its output; None if it returns logits alone.
        reordered: whether the rows of its head were put into the order of the data's classes.
        transformers: the configuration of a model of transformers; None for others.
    """

    output: str | int | None = None
    reordered: bool = False
    transformers: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Base:
    """A network from inputs (B, ...) to logits (B, C).

    Attributes:
        network: the network.
        head: its head.
        trained: whether it came with trained weights.
        form: what is needed, besides its name and weights, to build it again.
        part: the part that its specialists train.
    """

    network: nn.Module
    head: Head
    trained: bool
    form: NetworkForm
    part: TrainedPart = WHOLE


def name_of_module(network: nn.Module) -> str:
    """The name in settings of a network that was passed from Python."""
    return f"python:{type(network).__module__}.{type(network).__qualname__}"


def preprocessing_of_base(settings: FitSettings) -> Preprocessing | None:
    """The preprocessing that the base prescribes: the tokenizer of a text classifier of transformers; None for others.

    Raises:
        BackboneError: there is no such classifier, or its tokenizer cannot be kept.
        SettingsError: the settings ask for another representation of texts.
    """
    if not settings.backbone.startswith(TRANSFORMERS):
        return None
    preprocessing = read_tokens(settings.backbone.removeprefix(TRANSFORMERS), settings.data.longest)
    if preprocessing is not None and settings.data.text_as != "ngrams":
        raise SettingsError(
            f"data.text_as = {settings.data.text_as!r}: {settings.backbone} takes tokens of its own; leave it out"
        )
    return preprocessing


def make_base(
    settings: FitSettings, labels: LabelSpace, preprocessing: Preprocessing, given: nn.Module | None = None
) -> Base:
    """Build the base that the settings name, or copy the one given, and check that it fits the data.

    Args:
        settings: ``backbone``, ``weights``, ``names``, ``head`` and ``seed``.
        labels: the classes of the data.
        preprocessing: what makes its inputs.
        given: a trained network passed from Python, which is copied.

    Raises:
        BackboneError: there is no such network, its weights do not fit, it does not give one logit per class, it has
            no head or several, or its classes are not the data's.
    """
    example = preprocessing.example()
    network, trained, config = _build(settings, len(labels), preprocessing, given)
    # A base that is trained here learns the order of the data.
    names = _class_names(settings, network, len(labels)) if trained else None
    part, network, head = _find(network, len(labels), example, settings.head)
    order = _order(names, labels, trained)
    if order is not None:
        replace_head(network, head, torch.tensor(order))
        # Reordering makes plain layers of those that are linear in another guise: the head may have changed with them.
        head = find_head(network, len(labels), example, head.path)
    return Base(network, head, trained, NetworkForm(output=part, reordered=order is not None, transformers=config))


def rebuild_base(
    settings: FitSettings,
    form: NetworkForm | None,
    head: Head,
    n_classes: int,
    preprocessing: Preprocessing,
    given: nn.Module | None,
    trust: str | None,
    weights_bytes: int,
) -> tuple[nn.Module, Head]:
    """The base of a run, without its weights. This is the one place where what a run folder says makes a network.

    Args:
        settings: of the run.
        form: of the run's network; None in runs of the first versions.
        head: of the run.
        n_classes: C.
        preprocessing: what makes its inputs.
        given: a network of the same form, for runs whose base was passed from Python or built by a function.
        trust: ``module:function``, to call that function.
        weights_bytes: of the file with its weights, which bounds the network.

    Raises:
        ArtifactError: the base can only be built by code that nobody said to trust, or of what is not in the run; or
            what is built has another size, or no such head.
    """
    form = form or NetworkForm()
    if given is None:
        network = _rebuild(settings, form, n_classes, preprocessing, trust, weights_bytes)
    else:
        network = copy.deepcopy(given).float()
    if form.output is not None:
        network = LogitsOf(network, form.output)
    _refuse_other_head(network, head, n_classes)
    if form.reordered:
        # The weights that will be loaded are those of a reordered head, which is a plain layer.
        replace_head(network, head, torch.arange(n_classes))
    return network, head


def _rebuild(
    settings: FitSettings,
    form: NetworkForm,
    n_classes: int,
    preprocessing: Preprocessing,
    trust: str | None,
    weights_bytes: int,
) -> nn.Module:
    name = settings.backbone
    if name.startswith("python:"):
        raise ArtifactError(
            f"the base of this run, a {name.removeprefix('python:')}, was passed from Python: pass one of the same "
            "form (its weights are in the run): coterie.load(RUN, base=network)"
        )
    refuse_untrusted(name, trust)
    if is_function(name):  # which the user trusts, whatever it does
        return build(name, n_classes, preprocessing, settings.seed)
    if form.transformers is None and name.startswith(TRANSFORMERS):
        raise ArtifactError(
            f"the run does not hold the configuration of its base, {name}, and nothing is fetched to rebuild a run"
        )
    with confined(weights_bytes):
        if form.transformers is None:
            return build(name, n_classes, preprocessing, settings.seed)
        refuse_foreign(form.transformers)
        return build_transformers(without_places(form.transformers), preprocessing)


def _refuse_other_head(network: nn.Module, head: Head, n_classes: int) -> None:
    try:
        rows = head.of(network)
    except Exception:  # whatever a layer does that is no head
        raise ArtifactError(
            f"the base of this run has its head at {head.path}; the {type(network).__name__} given has none there"
        ) from None
    found, wanted = (rows.out_features, rows.in_features), (n_classes, head.in_features)
    if found != wanted or head.out_features != n_classes:
        raise ArtifactError(
            f"the base of this run has a head of {head.out_features} rows of {head.in_features} at {head.path}, for "
            f"{n_classes} classes; the {type(network).__name__} has one of {found[0]} rows of {found[1]} there"
        )


def refuse_untrusted(backbone: str, trust: str | None) -> None:
    """Refuse to call a function because a run folder names it.

    Raises:
        ArtifactError: the backbone is a function, and not the one that the user trusts.
    """
    if is_function(backbone) and trust != backbone:
        raise ArtifactError(
            f"the base of this run is built by the function {backbone}, and loading runs no code unasked. If you trust "
            f"it: --trust {backbone}, or coterie.load(RUN, trust={backbone!r}), or coterie.load(RUN, base=network)"
        )


def refuse_other_order(logits_NC: FloatArray, label_N: IntArray) -> None:
    """Refuse a trained base that is far better if its classes are renamed.

    Half of the samples say how classes would be renamed (the assignment that gets most of them right), the others
    judge it.

    Raises:
        BackboneError: its classes are in another order than the data's.
    """
    n_classes = logits_NC.shape[1]
    predicted_N = logits_NC.argmax(axis=1)
    # Every other sample, since validation may come sorted by class.
    first_N = np.arange(len(label_N)) % 2 == 0
    count_CC = np.zeros((n_classes, n_classes))
    np.add.at(count_CC, (predicted_N[first_N], label_N[first_N]), 1)
    renamed_C = linear_sum_assignment(count_CC, maximize=True)[1]
    plain = float((predicted_N == label_N)[~first_N].mean())
    renamed = float((renamed_C[predicted_N] == label_N)[~first_N].mean())
    # To rename classes helps any bad base a little, by chance: only a gain that is clear on the other half counts.
    if renamed > 2 * plain + CLEARLY:
        raise BackboneError(
            f"the base gets {plain:.1%} of the validation samples right, but {renamed:.1%} if its classes are renamed: "
            "they are in another order than the data's, or its head was never trained. Say by --names FILE what its "
            "outputs stand for, a name a line"
        )


def _build(
    settings: FitSettings, n_classes: int, preprocessing: Preprocessing, given: nn.Module | None
) -> tuple[nn.Module, bool, dict[str, Any] | None]:
    """The network, whether it is trained, and its configuration if it is one of transformers'."""
    name, weights = settings.backbone, settings.weights
    config = None
    if given is not None:
        # A copy, since the caller's network stays as it is; in single precision, for half precision loses small steps.
        network, trained = copy.deepcopy(given).float(), True
    elif name.startswith(TRANSFORMERS):
        network, trained = load_transformers(name.removeprefix(TRANSFORMERS), preprocessing)
        config = _plain_config(network)
    else:
        network, trained = build(name, n_classes, preprocessing, settings.seed), False
    if weights == "own":
        if not trained and not is_function(name):
            raise BackboneError(f"--weights own: {name} comes without weights; give a file of them")
        return network, True, config
    if weights is not None:
        load_weights(Path(weights), network)
    return network, trained or weights is not None, config


def _config_of(network: nn.Module) -> Any:
    """That of a model of transformers; None for others."""
    return getattr(network.network if isinstance(network, TextClassifier) else network, "config", None)


def _plain_config(network: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = without_places(_config_of(network).to_dict())
    return config


def _find(network: nn.Module, n_classes: int, example: Tensor, name: str | None) -> tuple[Part | None, nn.Module, Head]:
    """The logits among what the network returns, and the head that they come from."""
    found: list[tuple[Part | None, nn.Module, Head]] = []
    faults: list[BackboneError] = []
    for part in logit_parts(network, n_classes, example):
        whole = network if part is None else LogitsOf(network, part)
        wrapped = whole is not network or isinstance(network, TextClassifier)
        wanted = f"network.{name}" if wrapped and name is not None else name
        try:
            found.append((part, whole, find_head(whole, n_classes, example, wanted)))
        except BackboneError as error:
            faults.append(error)
    if len(found) == 1:
        return found[0]
    if not found:
        raise faults[0]
    listed = ", ".join(f"{part} (head {head.path.removeprefix('network.')})" for part, _, head in found)
    raise BackboneError(
        f"{type(network).__name__} returns {len(found)} parts that could be its logits: {listed}. Pick one by "
        "--head PATH, the path of its head"
    )


def _class_names(settings: FitSettings, network: nn.Module, n_classes: int) -> tuple[str, ...] | None:
    """What a trained network calls its classes: as the user says, or as models of transformers say themselves."""
    if settings.names is not None:
        return read_column(settings.names, n_classes, "names")
    names = getattr(_config_of(network), "id2label", None)
    if not isinstance(names, dict) or all(str(name) == f"LABEL_{k}" for k, name in names.items()):
        return None
    return tuple(str(names[k]) for k in sorted(names))


def _order(names: tuple[str, ...] | None, labels: LabelSpace, trained: bool) -> list[int] | None:
    """For each class of the data, its row in the network's head; None where the orders agree, or only one has names.

    Raises:
        BackboneError: both have names, and not the same.
    """
    numbers = [str(k) for k in range(len(labels))]
    data_has_numbers = sorted(labels.names) == sorted(numbers)
    if not trained or (names is None and not data_has_numbers):
        return None
    if names is None or (data_has_numbers and sorted(names) != sorted(numbers)):
        names = tuple(numbers)  # data whose classes are numbers counts them as the network does
    if sorted(names) != sorted(labels.names):
        raise BackboneError(
            "the network's classes are not the data's: only the network has "
            f"{_some(set(names) - set(labels.names))}; only the data has {_some(set(labels.names) - set(names))}"
        )
    order = [names.index(name) for name in labels.names]
    return None if order == list(range(len(order))) else order


def _some(names: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(names)[:8]) or "none"
