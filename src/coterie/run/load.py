"""A trained ensemble in a run folder: saved by the pipeline, loaded here. Loading runs no code from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from coterie.backbones.base import rebuild_base
from coterie.backbones.cut import trunk_features
from coterie.backbones.head import Head
from coterie.backbones.probe import run as probe
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.backbones.text_classifier import TextClassifier
from coterie.config import HardwareSettings
from coterie.data.splits import sample_columns
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, BackboneError, InputError
from coterie.inputs import Preprocessing, TokenPreprocessing
from coterie.run.folder import Run
from coterie.run.hub import local_run, push_run
from coterie.run.names import (
    BASE_FILE,
    specialist_files,
)
from coterie.run.values import (
    base_bytes,
    cut_of,
    labels_of,
    partition_of,
    preprocessing_of,
    rule_of,
)


def load_ensemble(
    path: Path | str,
    hardware: HardwareSettings | None = None,
    *,
    base: nn.Module | None = None,
    trust: str | None = None,
) -> SpecialistEnsemble:
    """The ensemble of a finished run, ready to predict.

    Args:
        path: the run folder; or ``hub:NAME`` or ``hub:NAME@REVISION``, which is fetched from the hub and checked as
            any folder is.
        hardware: device and precision. Default: those that the run was trained with.
        base: for a run whose base was passed from Python or built by a function: a network of the same form. It is
            copied, and gets the run's weights.
        trust: ``module:function``; that function may be called to build the base of a run that names it.

    Raises:
        ArtifactError: there is no finished run, its format is newer, files are missing or damaged (named), or its base
            can only be built by code that nobody said to trust; or the hub has no such run, or cannot be reached.

    Examples:
        >>> import coterie
        >>> coterie.load("no-such-folder")
        Traceback (most recent call last):
        coterie.errors.ArtifactError: no-such-folder is not a coterie run: it has no manifest.json
    """
    run = Run.open_complete(local_run(path))
    manifest, preprocessing = run.manifest, preprocessing_of(run)
    labels, partition = labels_of(manifest), partition_of(manifest)
    network, head = load_base(run, preprocessing, base, trust)
    specialists: list[nn.Module | None] = []
    # What a specialist's file lacks is the base's, so the base is read first.
    for cluster, file in enumerate(specialist_files(partition)):
        classes = partition.classes(cluster)
        specialist = make_specialist(network, head, classes) if len(classes) > 1 else None
        if specialist is not None:
            run.read_weights(file, specialist, network)
            specialist = as_asked(specialist, cut_of(manifest), preprocessing.example())
            if all(other is None for other in specialists):  # the others differ from the first in weights alone
                _refuse_other_answers(run, network, specialist, preprocessing, len(classes))
        specialists.append(specialist)
    ensemble = SpecialistEnsemble(
        network,
        specialists,
        partition,
        labels,
        rule_of(manifest),
        preprocessing,
        hardware or manifest.settings.hardware,
        cut_of(manifest),
    )
    columns = None if manifest.data is None else manifest.data.columns
    ensemble.columns = sample_columns(manifest.settings.data, preprocessing, columns)
    ensemble.push = partial(_push, run.path.resolve())
    return ensemble


def _push(path: Path, name: str, private: bool | None) -> str:
    return push_run(path, name, private=private)


def load_base(
    run: Run, preprocessing: Preprocessing, base: nn.Module | None = None, trust: str | None = None
) -> tuple[nn.Module, Head]:
    """The base of a finished run alone, and where its head is.

    Args:
        run: a finished run.
        preprocessing: its own, by ``preprocessing_of``.
        base: as for ``load_ensemble``.
        trust: as for ``load_ensemble``.

    Raises:
        ArtifactError: its file is missing or damaged, or it can only be built by code that nobody said to trust.
    """
    manifest, settings = run.manifest, run.settings
    assert manifest.head is not None  # a finished run has one
    n_classes = len(labels_of(manifest))
    network, head = rebuild_base(
        settings, manifest.network, manifest.head, n_classes, preprocessing, base, trust, base_bytes(run)
    )
    run.read_weights(BASE_FILE, network)
    _refuse_other_form(run, network, preprocessing, n_classes)
    return network, head


def _refuse_other_form(run: Run, network: nn.Module, preprocessing: Preprocessing, n_classes: int) -> None:
    """Refuse a base that does not give logits of its classes: what a manifest says of its inputs and outputs shows in
    no weight.
    """
    if (
        isinstance(network, TextClassifier)
        and isinstance(preprocessing, TokenPreprocessing)
        and (preprocessing.n_marks > network.n_tokens or preprocessing.longest > network.longest)
    ):
        raise ArtifactError(
            f"the tokenizer of {run.path} gives up to {preprocessing.longest} tokens, with marks numbered below "
            f"{preprocessing.n_marks}, and its base takes {network.longest:.0f} below {network.n_tokens:.0f}"
        )
    with _named(run):
        _refuse_other_logits(network, preprocessing.example()[:1], n_classes)


def _refuse_other_answers(
    run: Run, base: nn.Module, specialist: nn.Module, preprocessing: Preprocessing, n_classes: int
) -> None:
    cut, example = cut_of(run.manifest), preprocessing.example()[:1]
    with _named(run):
        inputs = example if cut is None else trunk_features(base, cut, example)
        _refuse_other_logits(specialist, inputs, n_classes)


def _refuse_other_logits(network: nn.Module, example: Tensor, n_classes: int) -> None:
    logits_BC = probe(network, example)
    found = tuple(logits_BC.shape) if isinstance(logits_BC, Tensor) else type(logits_BC).__name__
    if found != (1, n_classes):
        raise BackboneError(f"{found} for a sample, where there are {n_classes} classes")
    if not bool(torch.isfinite(logits_BC).all()):
        raise BackboneError("logits that are NaN or infinite")


@contextmanager
def _named(run: Run) -> Iterator[None]:
    try:
        yield
    except (BackboneError, InputError) as error:
        raise ArtifactError(f"the networks of {run.path} do not answer as its manifest says: {error}") from None
