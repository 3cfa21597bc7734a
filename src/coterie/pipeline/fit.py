"""The stages in order: Splits -> Base -> LabelEmbedding -> Partition -> Specialists -> Gate -> Ensemble -> Report.

Each stage leaves its result in the run folder, and a training its state; a run that is started again goes on from
there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from torch import nn

from coterie.backbones.base import name_of_module
from coterie.config import EngineSettings, FitSettings
from coterie.data.splits import Splits
from coterie.engine import check_engine
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import EngineError
from coterie.pipeline.base import dismiss_helpers, train_base
from coterie.pipeline.choice import choose
from coterie.pipeline.defaults import with_backbone
from coterie.pipeline.finish import finish
from coterie.pipeline.job import Job, unless_complete
from coterie.pipeline.partitions import make_partitions
from coterie.pipeline.pilot import ask_pilot
from coterie.pipeline.prepare import Prepared, prepare
from coterie.pipeline.specialists import train_specialists
from coterie.pipeline.threads import settle_threads
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.system.limits import Limits
from coterie.system.load import OthersLoad
from coterie.system.ranks import Ranks, forget_launcher_variables
from coterie.training.tracking import make_trackers

ResultT = TypeVar("ResultT")


def run_stages(job: Job) -> SpecialistEnsemble:
    """All stages of a run."""
    base = train_base(job)
    partitions = make_partitions(job, base)
    if job.asked is not None:
        ask_pilot(job, base, partitions, job.asked)
    trained = train_specialists(job, base, partitions)
    choice = choose(job, base, trained)
    return finish(job, base, choice)


def fit(
    settings: FitSettings,
    out: Path | str | None = None,
    *,
    splits: Splits | None = None,
    base: nn.Module | None = None,
    base_run: Path | str | None = None,
    progress: Progress = SILENT,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    limits: Limits | None = None,
    announce: Callable[[Prepared], None] = lambda _: None,
    gain: float | None = None,
) -> SpecialistEnsemble:
    """Train a specialist ensemble, from labelled samples to the report.

    Under torchrun or ``fabric run``, rank 0 calls this, and the other ranks call
    ``coterie.pipeline.base.help_train_base``: all of them train the base, then rank 0 goes on alone.

    Args:
        settings: of every stage.
        out: the run folder; one that holds an unfinished run with the same settings goes on. None keeps nothing.
        splits: data to use instead of ``settings.data.source``.
        base: a network that is trained already, from inputs (B, channels, H, W) to logits (B, C). It is copied, and
            stands in for ``settings.backbone``; to load the run, one of its form is needed again.
        base_run: a run whose trained base is taken; it had the same data, network, base settings and seed.
        progress: progress callback.
        engine: who trains the specialists; it changes nothing in them.
        limits: when to stop. Default: those of the settings, with the time counted from now.
        announce: called with what was prepared, before anything is trained; not for a run that is complete.
        gain: in points of accuracy. A pilot, the first specialists, forecasts what all would gain; if that is less, no
            more are trained. None: all are trained, and no forecast is made.

    Raises:
        LimitError: a limit is reached; the same call goes on.
        DeclinedError: the forecast is below ``gain``; the same call without it goes on.
        CoterieError: see coterie.errors for what can be wrong.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> import coterie
        >>> folder, label_N = tempfile.mkdtemp(), np.arange(240) % 6
        >>> features_ND = np.eye(6)[label_N] + np.random.default_rng(0).normal(scale=0.3, size=(240, 6))
        >>> np.savez(f"{folder}/data.npz", features=features_ND, labels=label_N)
        >>> values = {"data": {"source": f"features:{folder}/data.npz"}, "backbone": "linear"}
        >>> values |= {"base": {"epochs": 5, "batch_size": 16}, "specialist": {"epochs": 2, "batch_size": 16}}
        >>> settings = coterie.FitSettings.from_values({**values, "partition": {"clusters": 2}})
        >>> coterie.fit(settings, f"{folder}/run").predict_proba(features_ND[:3]).shape
        (3, 6)
    """
    if base is not None:
        settings = settings.model_copy(update={"backbone": name_of_module(base)})
    settings, limits = _begun(settings, limits, out, splits, progress)

    def prepared() -> Prepared:
        check_engine(engine)
        return _prepared(run, settings, splits, base, base_run, progress, announce)

    def load() -> SpecialistEnsemble:
        dismiss_helpers(settings)
        return load_ensemble(run.path, base=base, trust=settings.backbone)

    def work(found: Prepared) -> SpecialistEnsemble:
        asked = None if gain is None else gain / 100
        return _with_job(found, run, progress, engine, limits, run_stages, asked)

    with _folder(out) as place:
        run = Run.create_or_resume(place, settings)
        return unless_complete(run, prepared, work, load)


def fit_base(
    settings: FitSettings,
    out: Path | str,
    *,
    splits: Splits | None = None,
    base_run: Path | str | None = None,
    progress: Progress = SILENT,
    limits: Limits | None = None,
    announce: Callable[[Prepared], None] = lambda _: None,
) -> None:
    """The first stage alone: base and validation logits, by which ``coterie headroom`` forecasts what specialists
    bring. ``fit`` goes on with it. A run that is complete is left as it is.

    Args:
        settings: of every stage.
        out: the run folder.
        splits: data to use instead of ``settings.data.source``.
        base_run: as for ``fit``.
        progress: progress callback.
        limits: as for ``fit``.
        announce: as for ``fit``.

    Raises:
        CoterieError: as ``fit``.
    """
    settings, limits = _begun(settings, limits, out, splits, progress)
    run = Run.create_or_resume(Path(out), settings)

    def prepared() -> Prepared:
        return _prepared(run, settings, splits, None, base_run, progress, announce)

    def work(found: Prepared) -> None:
        _with_job(found, run, progress, EngineSettings(), limits, train_base)

    unless_complete(run, prepared, work, lambda: dismiss_helpers(settings))


def _begun(
    settings: FitSettings, limits: Limits | None, out: Path | str | None, splits: Splits | None, progress: Progress
) -> tuple[FitSettings, Limits]:
    """Settings with a backbone, and when to stop."""
    forget_launcher_variables()
    _refuse_other_ranks()
    limits = Limits(settings.max_time, settings.max_memory) if limits is None else limits
    settings, why = with_backbone(settings, None if out is None else Path(out), splits)
    if why:
        progress.note(why)
    return settings, limits


def _prepared(
    run: Run,
    settings: FitSettings,
    splits: Splits | None,
    base: nn.Module | None,
    base_run: Path | str | None,
    progress: Progress,
    announce: Callable[[Prepared], None],
) -> Prepared:
    load = OthersLoad()
    # These settings are the caller's own, and so is what they name.
    found = prepare(settings, splits=splits, base=base, base_run=base_run, trust=settings.backbone)
    found = settle_threads(found, run, load, progress)
    announce(found)
    return found


def _with_job(
    prepared: Prepared,
    run: Run,
    progress: Progress,
    engine: EngineSettings,
    limits: Limits,
    work: Callable[[Job], ResultT],
    asked: float | None = None,
) -> ResultT:
    with closing(make_trackers(prepared.settings, run.path, progress)) as trackers:
        return work(Job(prepared, run, progress, engine, limits, trackers, asked))


@contextmanager
def _folder(out: Path | str | None) -> Iterator[Path]:
    """The run folder; one that is deleted at the end where none is given."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="coterie-") as folder:
        yield Path(folder)


def _refuse_other_ranks() -> None:
    ranks = Ranks.of_environment()
    if not ranks.leads:
        raise EngineError(
            f"rank {ranks.rank} of {ranks.world} calls fit; only rank 0 does, the others call "
            "coterie.pipeline.base.help_train_base"
        )
