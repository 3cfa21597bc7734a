"""A finished run on other labelled samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from coterie.config import DataSettings
from coterie.data import load as load_data
from coterie.data.additions import read_additions
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing
from coterie.routing.evaluation import Outputs
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.run.values import pass_cost_of


def outputs_on(
    run: Run,
    source: str,
    split: str | None = None,
    trust: str | None = None,
    note: Callable[[str], None] = warnings.warn,
) -> Outputs:
    """Run base and specialists over other labelled samples of the same classes.

    Args:
        run: that is judged.
        source: of the samples.
        split: of them, cut out where the source has none; or ``all``, which may lack some of the classes. None: test,
            or all where another source than the run's has no test split, which ``note`` is told.
        trust: as for ``load_ensemble``.
        note: is told what was decided.

    Raises:
        DataError: the source is broken, or its classes are not the run's.
    """
    ensemble = load_ensemble(run.path, trust=trust)
    settings = run.settings
    form = ensemble.preprocessing
    if split == "all":
        return replace(_outputs_on_all(ensemble, source, settings.data), pass_cost=pass_cost_of(run.manifest))
    size = {"image_size": form.height} if isinstance(form, ImagePreprocessing) and form.height == form.width else {}
    changed = {"source": source, "configuration": None, "imbalance": None, **size}
    splits = load_data(DataSettings(**{**settings.data.model_dump(), **changed}), settings.seed, form)
    own_names = [_own(name, ensemble, settings.data) for name in splits.labels.names]
    chosen = [splits.validation if split == "validation" else splits.test]
    names = set(ensemble.labels.names)
    if split is None and "test" in splits.cut and source != settings.data.source:
        chosen = [splits.train, splits.validation, splits.test]
        note(f"{source} has no test split: all of its {sum(map(len, chosen)):,} samples are judged (--split)")
        _refuse_classes(source, set(own_names) - names)
    else:
        _refuse_classes(source, set(own_names) ^ names)
    # The run's order may be another, with a class at the end that was added to it.
    place_C = np.array([ensemble.labels.names.index(name) for name in own_names])
    parts = [ensemble.outputs(part.samples, place_C[part.labels_N.numpy()]) for part in chosen]
    return replace(_joined(parts), pass_cost=pass_cost_of(run.manifest))


def _outputs_on_all(ensemble: SpecialistEnsemble, source: str, settings: DataSettings) -> Outputs:
    names = ensemble.labels.names
    additions = read_additions(source, ensemble.preprocessing, settings)
    found = {_own(name, ensemble, settings): samples for name, samples in additions.items()}
    _refuse_classes(source, set(found) - set(names))
    parts = [
        ensemble.outputs(samples, np.full(len(samples), names.index(name), dtype=np.int64))
        for name, samples in found.items()
    ]
    return _joined(parts)


def _joined(parts: Sequence[Outputs]) -> Outputs:
    return Outputs(
        np.concatenate([part.base_NC for part in parts]),
        np.concatenate([part.packed_NM for part in parts]),
        np.concatenate([part.label_N for part in parts]),
    )


def _own(name: str, ensemble: SpecialistEnsemble, settings: DataSettings) -> str:
    """The run's name of a class, where the run joins names that are spelled alike."""
    return ensemble.labels.meant(name) if settings.merge_names else name


def _refuse_classes(source: str, unknown: set[str]) -> None:
    if unknown:
        named = ", ".join(sorted(unknown)[:10])
        raise DataError(f"{source} has other classes than the run; they differ in: {named}")
