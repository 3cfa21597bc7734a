"""The backbone of a run that names none: the best for what the data is, of those that are installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from coterie.backbones.initial import PRETRAINED
from coterie.backbones.packages import LITE0, MINILM, installed_package
from coterie.config import AUTO, FitSettings
from coterie.config.data import NO_SPLIT
from coterie.config.recipes import RECIPE_GROUPS
from coterie.data.sources import kind_of
from coterie.data.splits import Splits
from coterie.errors import SettingsError
from coterie.inputs import SentencePreprocessing
from coterie.run.folder import Run
from coterie.run.manifest import MANIFEST

# Images with shorter sides are no photographs that a pretrained network would know anything of.
SHORTEST_PHOTO = 96
WHICH_PRETRAINED = (
    f"name a pretrained network by --backbone, or enlarge images to {SHORTEST_PHOTO} pixels by --data.image-size"
)
SMALL = {"image": "convnet-64", "text": "ngram-64", "table": "table-mlp-128", "features": "mlp-256"}


def with_backbone(
    settings: FitSettings, out: Path | None = None, splits: Splits | None = None
) -> tuple[FitSettings, str]:
    """Settings that name a backbone, and why it was chosen; empty where it was named.

    Args:
        settings: of the run.
        out: the run folder; a run that it holds keeps its backbone, its splits, and what its recipe was.
        splits: data to use instead of the source.

    Raises:
        SettingsError: weights without a backbone, or pretrained ones where no pretrained network would be chosen.
        DataError: the source is missing, or not labelled samples.
    """
    settings = _recipe_as_before(_split_as_before(settings, out), out)
    if settings.backbone != AUTO:
        return settings, ""
    for name in ("weights", "init"):
        file = getattr(settings, name)
        if file is not None and (name, file) != ("init", PRETRAINED):
            raise SettingsError(f"{name} = {file!r}: name the network that it is of by --backbone")
    if out is not None and os.path.lexists(out / MANIFEST):
        before = Run.open(out).settings
        return _named(settings, before.backbone, before.init), ""
    name, init, why = _chosen(settings, splits)
    if settings.init is not None and init is None:
        raise SettingsError(
            f"init = {settings.init!r}: of itself the backbone is {name}, for {why}; {WHICH_PRETRAINED}"
        )
    return _named(settings, name, init), f"backbone: {name}{' with pretrained weights' if init else ''}, for {why}"


def _split_as_before(settings: FitSettings, out: Path | None) -> FitSettings:
    """As the run in a folder, where no column splits its rows: an earlier version knew of none."""
    if out is None or settings.data.split is not None or not os.path.lexists(out / MANIFEST):
        return settings
    if Run.open(out).settings.data.split != NO_SPLIT:
        return settings
    data = settings.data.model_copy(update={"split": NO_SPLIT})
    return settings.model_copy(update={"data": data})


def _recipe_as_before(settings: FitSettings, out: Path | None) -> FitSettings:
    """What was not given, as the run in a folder has it, whose recipe is plain values by now."""
    if out is None or not os.path.lexists(out / MANIFEST):
        return settings
    before, given = Run.open(out).settings.to_values(), settings.given()
    kept = {name: before[name] for name in ("recipe", "budget", "storage")}
    asked = given.get("recipe", AUTO)
    if before["recipe"] == AUTO or asked not in {AUTO, before["recipe"]}:  # it had not begun, or is another one
        return settings
    if any(given.get(name, kept[name]) != kept[name] for name in ("budget", "storage")):
        return settings
    if settings.backbone == AUTO:  # what a recipe came to may need the weights that the base starts from
        kept |= {name: before[name] for name in ("backbone", "init")}
    groups = {group: {**before[group], **given.get(group, {})} for group in RECIPE_GROUPS}
    return FitSettings.from_values({**given, **kept, **groups})


def _named(settings: FitSettings, backbone: str, init: str | None) -> FitSettings:
    """With the defaults of that backbone for what was not given."""
    start = {} if init is None else {"init": init}
    return FitSettings.from_values({**settings.given(), "backbone": backbone, **start})


def _chosen(settings: FitSettings, splits: Splits | None) -> tuple[str, str | None, str]:
    """A backbone, the weights that it starts from, and why."""
    data = settings.data
    if splits is not None:
        modality, size = splits.preprocessing.modality, None
        sentences = isinstance(splits.preprocessing, SentencePreprocessing)
    else:
        modality, size = kind_of(data)
        sentences = modality == "text" and data.text_as != "ngrams"
    if sentences:
        return "linear", None, "sentence embeddings"
    if modality == "text" and splits is None:
        return _pretrained_or(MINILM, "transformers", "ngram-64", "texts")
    if modality == "image":
        return backbone_of_images(size, data.image_size)
    kinds = {"text": "n-grams of texts", "table": "rows of tables"}
    return SMALL[modality], None, kinds.get(modality, modality)


def backbone_of_images(size: tuple[int, int] | None, image_size: int | None) -> tuple[str, str | None, str]:
    """A backbone, the weights that it starts from, and why.

    Args:
        size: width and height of images in colour; None of others.
        image_size: the side that they are enlarged, or made smaller, to.
    """
    if size is not None and (min(size) if image_size is None else image_size) >= SHORTEST_PHOTO:
        return _pretrained_or(LITE0, "timm", SMALL["image"], f"photographs of {size[0]} x {size[1]} pixels")
    return SMALL["image"], None, "small or grey images"


def _pretrained_or(name: str, library: str, small: str, kind: str) -> tuple[str, str | None, str]:
    """A pretrained network where its library and weights are installed."""
    package = installed_package(name)
    if package is not None and importlib.util.find_spec(library) is not None:
        return name, PRETRAINED, f"{kind}, since {library} and {package.distribution} are installed"
    return small, None, f"{kind}, since no pretrained network is installed"
