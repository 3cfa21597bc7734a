"""The last stage: the ensemble judged on the test split, and all that the run folder still lacks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.measures.costs import RunCosts
from coterie.pipeline.base import TrainedBase
from coterie.pipeline.choice import Choice, outputs_of
from coterie.pipeline.job import Job
from coterie.run.manifest import MANIFEST, Candidate, PartitionRecord
from coterie.run.names import BASE_FILE, STAGE_LOGITS, specialist_files
from coterie.run.reporting import tracked_figures, write_examples, write_outputs, write_report, write_rule
from coterie.run.values import cut_of, members_of, specialist_seconds
from coterie.training.passes import compute_logits

TIMED_SAMPLES = 2048


def finish(job: Job, base: TrainedBase, choice: Choice) -> SpecialistEnsemble:
    """Judge the ensemble on the test split, and write logits, rule, figures and report."""
    run, splits, best = job.run, job.splits, choice.best
    specialists, rule = best.specialists, best.tuning.rule
    ensemble = SpecialistEnsemble(
        base.network,
        specialists.networks,
        specialists.partition,
        splits.labels,
        rule,
        splits.preprocessing,
        job.settings.hardware,
        cut_of(run.manifest),
    )
    test = outputs_of(job, base, specialists, "test", "evaluation", more_steps=2)
    # First the records that the figures and the report are made from.
    run.update(partition=_partition_record(choice), costs=_measure_costs(job, ensemble))
    job.progress.advance(1)
    write_outputs(run, "validation", best.validation)
    write_outputs(run, "test", test)
    write_rule(run, best.tuning, {"validation": best.validation, "test": test})
    write_examples(run, test, specialists.partition, rule, splits)
    write_report(run, datetime.now(UTC).date().isoformat(), test)
    # Only now: a run that is cut short before this line tunes all partitions again.
    for tuned in choice.tried:
        if tuned is not best:
            run.forget(specialist_files(tuned.specialists.partition))
    run.forget([name for name in run.manifest.files if name.startswith(STAGE_LOGITS)])
    # Somebody may have deleted a file while another was made.
    run.check_whole()
    # Last of all: whoever finds this finds everything.
    run.update(complete=True)
    job.trackers.finish(tracked_figures(run), [run.path / name for name in (MANIFEST, *run.manifest.files)])
    job.progress.advance(1)
    return ensemble


def _partition_record(choice: Choice) -> PartitionRecord:
    partition = choice.best.specialists.partition
    return PartitionRecord(
        members=members_of(partition),
        candidates=tuple(
            Candidate(clusters=tuned.specialists.partition.n_clusters, accuracy=tuned.tuning.accuracy)
            for tuned in choice.tried
        ),
        layers=partition.layer_S,
    )


def _measure_costs(job: Job, ensemble: SpecialistEnsemble) -> RunCosts:
    samples = job.splits.test.samples
    samples = samples.take(torch.arange(min(TIMED_SAMPLES, len(samples))))
    preprocessing = job.splits.preprocessing
    base_ms = _milliseconds(lambda: compute_logits(job.fabric, ensemble.base, samples, preprocessing)) / len(samples)
    ensemble_ms = _milliseconds(lambda: ensemble.decide(samples)) / len(samples)
    return RunCosts(
        base_seconds=job.run.manifest.seconds[BASE_FILE],
        specialist_seconds=specialist_seconds(job.run.manifest),
        base_image_ms=base_ms,
        ensemble_image_ms=ensemble_ms,
        base_parameters=sum(p.numel() for p in ensemble.base.parameters()),
        specialist_parameters=sum(p.numel() for p in ensemble.specialists.parameters()),
    )


def _milliseconds(work: Callable[[], object]) -> float:
    work()  # the first call pays for memory and kernels
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
