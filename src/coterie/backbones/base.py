"""The base: built by name or passed from Python, with its head found and its classes in the order of the data."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from coterie.backbones import Head, LogitsOf, build, find_head, logit_parts, replace_head
from coterie.backbones.by_name import download_timm
from coterie.backbones.class_order import order_of_rows
from coterie.backbones.confined import confined, refuse_foreign, without_places
from coterie.backbones.initial import PRETRAINED, draw_head, initial_weights
from coterie.backbones.libraries import (
    TRANSFORMERS,
    build_transformers,
    fresh_transformers,
    has_weights,
    is_function,
    load_transformers,
    read_tokens,
    start_transformers,
)
from coterie.backbones.output import Part, output_width
from coterie.backbones.packages import installed_package
from coterie.backbones.parts import WHOLE, TrainedPart
from coterie.backbones.prescribed import prescribed_images
from coterie.backbones.text_classifier import PoolingName, TextClassifier
from coterie.backbones.weights import WeightsFile, load_weights, read_weights, start_from
from coterie.config import FitSettings
from coterie.errors import ArtifactError, BackboneError, SettingsError
from coterie.inputs import Preprocessing
from coterie.label_file import read_column
from coterie.labels import LabelSpace

SEVERAL_LABELS = "by its problem_type it was trained to find several classes of a sample; here it is asked for one"


@dataclass(frozen=True)
class NetworkForm:
    """What is needed, besides its name and weights, to build a network again.

    Attributes:
        output: key, attribute or position of the logits in its output; None if it returns logits alone.
        reordered: whether its head was given the rows of the data's classes, in their order.
        transformers: the configuration of a model of transformers; None for others.
        pooling: how a sentence encoder makes one vector of a text's tokens; None for others.
        origin: where its weights come from, what of them was taken and what not; empty for fresh ones.
    """

    output: str | int | None = None
    reordered: bool = False
    transformers: dict[str, Any] | None = None
    pooling: PoolingName | None = None
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Base:
    """A network from inputs (B, ...) to logits (B, C).

    Attributes:
        network: the network.
        head: its head.
        trained: whether it came with trained weights.
        form: what is needed, besides its name and weights, to build it again.
        part: the part that its specialists train.
        knows_classes: whether the weights that it came with, or starts from, were trained on classes such as these.
    """

    network: nn.Module
    head: Head
    trained: bool
    form: NetworkForm
    part: TrainedPart = WHOLE
    knows_classes: bool = False

    @property
    def whole(self) -> TrainedPart:
        """All of the network, whose head may have a learning rate of its own."""
        return TrainedPart(head=(self.head.path, *self.head.more))


def name_of_module(network: nn.Module) -> str:
    """The name in settings of a network that was passed from Python."""
    return f"python:{type(network).__module__}.{type(network).__qualname__}"


def preprocessing_of_base(settings: FitSettings) -> Preprocessing | None:
    """The preprocessing that the base prescribes: the tokenizer of a text classifier of transformers, or what its
    library says of the images that its weights were trained on; None for others.

    Raises:
        BackboneError: there is no such classifier, its tokenizer cannot be kept, or its images cannot be made.
        SettingsError: the settings ask for another representation of texts.
    """
    name, trained = settings.backbone, settings.init is not None or settings.weights is not None
    if name.startswith(TRANSFORMERS):
        place = name.removeprefix(TRANSFORMERS)
        preprocessing = read_tokens(place, settings.data.longest)
        if preprocessing is not None and settings.data.text_as != "ngrams":
            raise SettingsError(
                f"data.text_as = {settings.data.text_as!r}: {settings.backbone} takes tokens of its own; leave it out"
            )
        if preprocessing is not None:
            return preprocessing
        trained = trained or has_weights(place)
    return prescribed_images(name, settings.data, pretrained=settings.init == PRETRAINED) if trained else None


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
    built = _build(settings, labels, preprocessing, given)
    network, trained = built.network, settings.start is None and built.trained
    _refuse_scripted(network)
    names = _class_names(settings, network) if trained else None
    # The head of a network that is trained further may have any width, and so may one whose outputs have names.
    n_outputs = output_width(network, example) if built.starts or names is not None else None
    if n_outputs is None or (trained and n_outputs < len(labels)):
        n_outputs = len(labels)
    part, network, head = _find(network, n_outputs, example, settings.head)
    origin, new_head = built.origin, built.new_head
    if built.file is not None:
        origin, new_head = start_from(built.file, network, (head.path, *head.more))
    if new_head:
        draw_head(network, head, settings.seed)
    # A base that is trained here learns the order of the data.
    order, said = order_of_rows(names, labels, n_outputs) if trained else (None, "")
    if order is None and n_outputs != len(labels):
        order, said = [row % n_outputs for row in range(len(labels))], _renewed(n_outputs, len(labels))
    origin = "; ".join(filter(None, (origin, said)))
    form = NetworkForm(part, order is not None, transformers=built.config, pooling=built.pooling, origin=origin)
    if order is None:
        return Base(network, head, trained, form, knows_classes=trained or (built.file is not None and not new_head))
    replace_head(network, head, torch.tensor(order))
    # Reordering makes plain layers of those that are linear in another guise: the head may have changed with them.
    head = find_head(network, len(labels), example, head.path)
    if not trained:
        draw_head(network, head, settings.seed)
    return Base(network, head, trained, form, knows_classes=trained)


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
    if form.reordered:
        # The weights that will be loaded are those of a head that is a plain layer, and may have had other rows.
        _give_rows(network, head, n_classes, preprocessing.example())
    _refuse_other_head(network, head, n_classes)
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
        return build_transformers(without_places(form.transformers), preprocessing, form.pooling)


def _give_rows(network: nn.Module, head: Head, n_classes: int, example: Tensor) -> None:
    """Give a head as many rows as there are classes, whatever it has."""
    n_outputs = output_width(network, example) or n_classes
    try:
        replace_head(network, replace(head, out_features=n_outputs), torch.arange(n_classes) % n_outputs)
    except Exception:  # whatever a layer does that is no head
        raise ArtifactError(
            f"the base of this run has its head at {head.path}; the {type(network).__name__} given has none there"
        ) from None


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


@dataclass(frozen=True, eq=False)
class _Built:
    """A network before its head is known.

    ``starts``: whether its head may have any width; ``new_head``: whether it has weights, but for the head; ``file``:
    weights that it starts from, and does not have yet.
    """

    network: nn.Module
    trained: bool = False
    starts: bool = False
    new_head: bool = False
    config: dict[str, Any] | None = None
    pooling: PoolingName | None = None
    origin: str = ""
    file: WeightsFile | None = None


def _build(settings: FitSettings, labels: LabelSpace, preprocessing: Preprocessing, given: nn.Module | None) -> _Built:
    """The network, and what is known of its weights."""
    name, weights = settings.backbone, settings.weights
    if settings.start is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return _start(settings, labels, preprocessing, given)
    built = _Built(nn.Module())
    if given is not None:
        # A copy, since the caller's network stays as it is; in single precision, for half precision loses small steps.
        built = _Built(_copy_of(given), trained=True)
    elif name.startswith(TRANSFORMERS):
        network, trained = load_transformers(name.removeprefix(TRANSFORMERS), preprocessing)
        config = _plain_config(network)
        several = trained and config.get("problem_type") == "multi_label_classification"
        built = _Built(network, trained, config=config, origin=SEVERAL_LABELS if several else "")
    else:
        # Where the names say so, outputs for which there is no data are loaded first, and then cut off.
        named = weights is not None and settings.names is not None
        n_outputs = len(read_column(settings.names, None, "names")) if named and settings.names else len(labels)
        built = _Built(build(name, max(n_outputs, len(labels)), preprocessing, settings.seed))
    if weights == "own":
        if not built.trained and not is_function(name):
            raise BackboneError(f"--weights own: {name} comes without weights; give a file of them")
        return replace(built, trained=True)
    if weights is not None:
        return replace(built, trained=True, origin=load_weights(weights, _bare(built.network)))
    return built


def _start(settings: FitSettings, labels: LabelSpace, preprocessing: Preprocessing, given: nn.Module | None) -> _Built:
    """A network whose training starts from other weights than fresh ones."""
    name, init = settings.backbone, settings.init or PRETRAINED
    own = given is not None or is_function(name)
    if name.startswith(TRANSFORMERS):
        place = name.removeprefix(TRANSFORMERS)
        if init == PRETRAINED:
            network, pooling, origin = start_transformers(place, preprocessing, labels.names)
            return _Built(network, config=_plain_config(network), pooling=pooling, origin=origin)
        network, pooling = fresh_transformers(place, preprocessing, labels.names)
        return _Built(network, config=_plain_config(network), pooling=pooling, file=read_weights(init))
    if own:
        network = build(name, len(labels), preprocessing, settings.seed) if given is None else _copy_of(given)
        if init == PRETRAINED:
            return _Built(network, starts=True, origin=f"initial weights: those that {name} brings")
        return _Built(network, starts=True, file=read_weights(init))
    if init == PRETRAINED and name.startswith("timm:") and installed_package(name) is None:
        network = download_timm(name, len(labels), preprocessing)
        return _Built(network, new_head=True, origin=f"initial weights: timm's for {name}; the head is new")
    network = build(name, len(labels), preprocessing, settings.seed)
    return _Built(network, file=initial_weights(name, init, list(network.state_dict())))


def _copy_of(given: nn.Module) -> nn.Module:
    _refuse_scripted(given)
    return copy.deepcopy(given).float()


def _refuse_scripted(network: nn.Module) -> None:
    if isinstance(network, torch.jit.ScriptModule):
        raise BackboneError(
            f"{type(network).__name__} is compiled by torch.jit: its head cannot be cut to some classes; give the "
            "network that it was made of"
        )


def _bare(network: nn.Module) -> nn.Module:
    """The network as its library names its weights."""
    return network.network if isinstance(network, TextClassifier) else network


def _renewed(n_outputs: int, n_classes: int) -> str:
    return f"the head, of {n_outputs} outputs, is replaced by a new one of {n_classes}"


def _config_of(network: nn.Module) -> Any:
    """That of a model of transformers; None for others."""
    return getattr(_bare(network), "config", None)


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


def _class_names(settings: FitSettings, network: nn.Module) -> tuple[str, ...] | None:
    """What a trained network calls its outputs: as the user says, or as models of transformers say themselves."""
    if settings.names is not None:
        return read_column(settings.names, None, "names")
    names = getattr(_config_of(network), "id2label", None)
    if not isinstance(names, dict) or all(str(name) == f"LABEL_{k}" for k, name in names.items()):
        return None
    return tuple(str(names[k]) for k in sorted(names))
