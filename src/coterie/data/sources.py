"""Where labelled samples come from: each kind of source behind the same two functions."""

from __future__ import annotations

from dataclasses import replace

import torch

from coterie.config import DataSettings
from coterie.data.shared import describe_shared, sample_digests
from coterie.data.splits import Columns, Split, Splits
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, Preprocessing
from coterie.inputs.image import prescribed_image
from coterie.labels import LabelSpace
from coterie.system.units import how_many
from coterie.vocabulary import Modality


def load(
    settings: DataSettings, seed: int, preprocessing: Preprocessing | None = None, columns: Columns | None = None
) -> Splits:
    """Load (or generate) training, validation and test samples; the same seed cuts the same splits.

    Args:
        settings: the source, and how its samples are read and cut.
        seed: of the splits, unless ``settings.split_seed`` sets one.
        preprocessing: of the run whose networks take the samples; default: learned from train.
        columns: of the run's own data; heeded where the settings name none and they are there.

    Raises:
        DataError: the source is missing, broken, or unfit for classification; the message says which and why.
    """
    splits = _load(settings, seed if settings.split_seed is None else settings.split_seed, preprocessing, columns)
    splits = replace(splits, about="; ".join([splits.about, *_of_classes(splits)]))
    if settings.source != "glyphs":  # of which each is drawn anew
        splits = _with_shared(splits, preprocessing)
    prescribed = prescribed_image(preprocessing)
    if prescribed is not None and prescribed_image(splits.preprocessing) is None:
        splits = _as_prescribed(splits, prescribed, settings.source)
    if settings.mean is None or settings.std is None:
        return splits
    learned = splits.preprocessing
    if not isinstance(learned, ImagePreprocessing):
        raise DataError("data.mean and data.std are for images; other data is standardised as its training samples are")
    if len(settings.mean) != learned.channels:
        raise DataError(
            f"data.mean has {len(settings.mean)} numbers; the images have {how_many(learned.channels, 'channel')}"
        )
    # Settings count brightness from 0 to 1, pixels from 0 to 255.
    mean, std = (tuple(255 * value for value in values) for values in (settings.mean, settings.std))
    return replace(splits, preprocessing=replace(learned, mean=mean, std=std))


def _of_classes(splits: Splits) -> list[str]:
    """What there is to say of the names of classes, and of those that have too few samples for every split."""
    notes = []
    if alike := splits.labels.alike():
        shown = "; ".join(" and ".join(map(ascii, names)) for names in alike[:5])
        notes.append(
            f"{how_many(len(alike), 'group of classes looks', 'groups of classes look')} alike: {shown} "
            "(--data.merge-names joins them)"
        )
    if joined := splits.labels.joined:
        shown = "; ".join(f"{', '.join(map(ascii, names))} to {name!a}" for name, names in list(joined.items())[:5])
        notes.append(f"other spellings of {how_many(len(joined), 'class')} joined: {shown}")
    missing = {
        split: len(splits.labels) - len(torch.unique(getattr(splits, split).labels_N))
        for split in ("validation", "test")
    }
    if any(missing.values()):
        shown = ", ".join(f"{number:,} none of {split}" for split, number in missing.items() if number)
        notes.append(f"classes with no sample to be judged on: {shown}")
    return notes


def _with_shared(splits: Splits, form: Preprocessing | None) -> Splits:
    """Samples that splits share counted and said; texts are, where they are read. A run that is loaded again has done
    so.
    """
    fresh = form is None or (isinstance(form, ImagePreprocessing) and form.levels == ())
    if not fresh or splits.preprocessing.modality == "text":
        return splits
    samples = {name: getattr(splits, name).samples for name in ("train", "validation", "test")}
    if splits.preprocessing.modality == "image":
        from coterie.data.near import near_rows

        what = "images, perhaps encoded anew,"
        of_validation, of_test, in_both = (
            len(near_rows(samples[one], samples[other]))
            for one, other in (("train", "validation"), ("train", "test"), ("validation", "test"))
        )
    else:
        what = "rows"
        digests = {name: sample_digests(some) for name, some in samples.items()}
        train, validation = set(digests["train"]), set(digests["validation"])
        of_validation, of_test = (sum(each in train for each in digests[name]) for name in ("validation", "test"))
        in_both = sum(each in validation for each in digests["test"])
    notes = describe_shared(what, {"validation": of_validation, "test": of_test}, in_both)
    about = "; ".join([splits.about, *notes])
    return replace(splits, about=about, n_in_validation=0 if splits.preprocessing.modality == "table" else in_both)


def _as_prescribed(splits: Splits, form: ImagePreprocessing, source: str) -> Splits:
    """Images that a source holds in memory, as a network takes them."""
    from coterie.data.decode import resize_like

    if not isinstance(splits.preprocessing, ImagePreprocessing):
        raise DataError(f"the network takes images; {source} holds none")

    form = replace(form, levels=form.levels or None)  # pixels in memory have 8 bits

    def fitted(split: Split) -> Split:
        return Split(resize_like(split.samples, form), split.labels_N)

    about = f"{splits.about}, resized to {form.width} x {form.height} pixels"
    train, validation, test = fitted(splits.train), fitted(splits.validation), fitted(splits.test)
    return replace(splits, train=train, validation=validation, test=test, preprocessing=form, about=about)


def _load(settings: DataSettings, seed: int, preprocessing: Preprocessing | None, columns: Columns | None) -> Splits:
    # A source is imported when it is asked for: glyphs needs no `datasets`, parquet no fonts.
    kind, _, place = settings.source.partition(":")
    if kind == "glyphs":
        from coterie.data import glyphs

        return glyphs.load(settings, seed)
    if kind == "cifar100":
        from coterie.data import torchvision

        return torchvision.load(settings, seed)
    if kind == "features" and not place.endswith(".parquet"):
        from coterie.data import features

        return features.load_npz(place, settings, seed, preprocessing)
    from coterie.data import huggingface

    if kind == "features":
        kind, settings = "parquet", settings.model_copy(update={"modality": "features"})
    return huggingface.load(kind, place, settings, seed, preprocessing, columns)


def kind_of(settings: DataSettings) -> tuple[Modality, tuple[int, int] | None]:
    """What the samples of a source are, without reading them; and of images in colour, width and height of the first.

    Raises:
        DataError: the source is missing, or not labelled samples.
    """
    kind, _, place = settings.source.partition(":")
    if kind in ("glyphs", "cifar100"):
        return "image", None
    if kind == "features":
        return "features", None
    from coterie.data import huggingface

    return huggingface.kind_of(kind, place, settings)


def read_groups(settings: DataSettings, column: str, labels: LabelSpace) -> tuple[str, ...]:
    """The group of each class by a further label column of the source, in the order of the classes.

    Args:
        settings: source of the data.
        column: the one with the groups.
        labels: the classes.

    Raises:
        DataError: the source has no columns, or not this one; a class that lies in several groups; other classes.
    """
    kind, _, place = settings.source.partition(":")
    if kind in ("glyphs", "cifar100", "features"):
        raise DataError(f"{settings.source} has no column {column!r} for groups; files and the hub may have one")
    from coterie.data import huggingface

    space, groups = huggingface.load_groups(kind, place, settings, column)
    if space != labels:
        raise DataError(f"the classes of {settings.source} are not those of the data in use: no groups by {column!r}")
    return groups
