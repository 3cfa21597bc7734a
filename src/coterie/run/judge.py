"""A finished run on other labelled samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from coterie.arrays import IntArray
from coterie.config import DataSettings
from coterie.data import load as load_data
from coterie.data.additions import read_additions
from coterie.data.cut import TooFewToCutError
from coterie.data.splits import Columns
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, Samples
from coterie.progress import SILENT, Progress
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
    progress: Progress = SILENT,
) -> Outputs:
    """Run base and specialists over other labelled samples of the same classes.

    Args:
        run: that is judged.
        source: of the samples.
        split: of them, cut out where the source has none; or ``all``, which may lack some of the classes. None: test,
            or all where another source than the run's has no test split, which ``note`` is told.
        trust: as for ``load_ensemble``.
        note: is told what was decided.
        progress: progress callback.

    Raises:
        DataError: the source is broken, or its classes are not the run's.
    """
    ensemble = load_ensemble(run.path, trust=trust)
    labelled = _labelled(run, ensemble, source, split, note)
    progress.stage("evaluation", sum(ensemble.panel.n_steps(samples) for samples, _ in labelled))
    parts = [ensemble.outputs(samples, label_N, progress) for samples, label_N in labelled]
    return Outputs(
        np.concatenate([part.base_NC for part in parts]),
        np.concatenate([part.packed_NM for part in parts]),
        np.concatenate([part.label_N for part in parts]),
        pass_cost_of(run.manifest),
    )


def _labelled(
    run: Run, ensemble: SpecialistEnsemble, source: str, split: str | None, note: Callable[[str], None]
) -> list[tuple[Samples, IntArray]]:
    """The samples of a split, in parts, with the run's numbers of their classes."""
    settings, record, form = run.settings, run.manifest.data, ensemble.preprocessing
    columns = None if record is None else record.columns
    if split == "all":
        return _all_of(ensemble, source, settings.data, columns)
    size = {"image_size": form.height} if isinstance(form, ImagePreprocessing) and form.height == form.width else {}
    changed = {"source": source, "configuration": None, "imbalance": None, **size}
    data = DataSettings(**{**settings.data.model_dump(), **changed})
    all_of_another = split is None and data.source != settings.data.source
    try:
        splits = load_data(data, settings.seed, form, columns)
    except TooFewToCutError as error:
        if not all_of_another or "test" not in error.splits:
            raise
        labelled = _all_of(ensemble, source, settings.data, columns)
        note(_judged(source, sum(len(samples) for samples, _ in labelled)))
        return labelled
    own_names = [_own(name, ensemble, settings.data) for name in splits.labels.names]
    chosen = [splits.validation if split == "validation" else splits.test]
    names = set(ensemble.labels.names)
    if all_of_another and "test" in splits.cut:
        chosen = [splits.train, splits.validation, splits.test]
        note(_judged(source, sum(map(len, chosen))))
        _refuse_classes(source, set(own_names) - names)
    else:
        _refuse_classes(source, set(own_names) ^ names)
    # The run's order may be another, with a class at the end that was added to it.
    place_C = np.array([ensemble.labels.names.index(name) for name in own_names])
    return [(part.samples, place_C[part.labels_N.numpy()]) for part in chosen]


def _judged(source: str, n_samples: int) -> str:
    return f"{source} has no test split: all of its {n_samples:,} samples are judged (--split)"


def _all_of(
    ensemble: SpecialistEnsemble, source: str, settings: DataSettings, columns: Columns | None
) -> list[tuple[Samples, IntArray]]:
    names = ensemble.labels.names
    additions = read_additions(source, ensemble.preprocessing, settings, columns)
    found = {_own(name, ensemble, settings): samples for name, samples in additions.items()}
    _refuse_classes(source, set(found) - set(names))
    return [(samples, np.full(len(samples), names.index(name), dtype=np.int64)) for name, samples in found.items()]


def _own(name: str, ensemble: SpecialistEnsemble, settings: DataSettings) -> str:
    """The run's name of a class, where the run joins names that are spelled alike."""
    return ensemble.labels.meant(name) if settings.merge_names else name


def _refuse_classes(source: str, unknown: set[str]) -> None:
    if unknown:
        named = ", ".join(sorted(unknown)[:10])
        raise DataError(f"{source} has other classes than the run; they differ in: {named}")
