"""A finished run whose files are missing or damaged: what follows from the rest is made again, the rest is named."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from coterie.routing.evaluation import Outputs
from coterie.run.contents import HISTORY_FILE, METRICS_FILE, write_history
from coterie.run.folder import REPORT, FinishedRun, Run
from coterie.run.manifest import Manifest
from coterie.run.names import BASE_FILE, EXAMPLES_FILE, HEAD_FILE, SPECIALISTS, outputs_file, specialist_files
from coterie.run.reporting import read_outputs, write_report, write_rule
from coterie.run.values import partition_of, tuning_of
from coterie.vocabulary import SplitName


def repair(path: Path | str) -> tuple[str, ...]:
    """Mend a finished run. Figures and report are made again from stored logits; what compare made is forgotten, and
    compare makes it again. Where weights, logits or examples are damaged, the run becomes an unfinished one, and the
    command that made it goes on with what is missing.

    Returns:
        What was wrong and what was done, a line each; none for a run that is whole.

    Raises:
        ArtifactError: there is no finished run, its manifest is damaged, or another process writes to it.
    """
    run = Run.open_finished(Path(path))
    with run.writing():
        return _repair(run)


def _repair(run: FinishedRun) -> tuple[str, ...]:
    faults = {**dict.fromkeys(_required(run) - set(run.manifest.files), "not in the manifest"), **run.faults()}
    compared = [name for name in faults if name.startswith("comparison.") or name.endswith("-flipped.safetensors")]
    done = [f"{name}: {faults[name]}. Forgotten; `coterie compare {run.path}` makes it again" for name in compared]
    if compared:
        run.forget(compared)
    if HISTORY_FILE in faults:
        write_history(run, {})
        done.append(f"{HISTORY_FILE}: {faults[HISTORY_FILE]}. The training curves are lost")
    if lost := sorted(faults.keys() - {*compared, HISTORY_FILE, METRICS_FILE}):
        _begin_again(run, lost)
        named = "; ".join(f"{name}: {faults[name]}" for name in lost)
        return (*done, f"{named}. The run is unfinished now: the command that made it goes on, and makes this again")
    if METRICS_FILE in faults:
        outputs: dict[SplitName, Outputs] = {split: read_outputs(run, split) for split in get_args(SplitName)}
        write_rule(run, tuning_of(run.manifest), outputs)
        done.append(f"{METRICS_FILE}: {faults[METRICS_FILE]}. Computed again from the stored logits")
    if done or not run.has(REPORT):
        write_report(run, datetime.now(UTC).date().isoformat())
        done.append(f"{REPORT}: drawn again")
    return tuple(done)


def _required(run: FinishedRun) -> set[str]:
    """What every finished run has."""
    partition = partition_of(run.manifest)
    sizes = zip(specialist_files(partition), partition.size_S.tolist(), strict=True)
    specialists = {file for file, size in sizes if size > 1}
    return {
        BASE_FILE,
        *specialists,
        outputs_file("validation"),
        outputs_file("test"),
        EXAMPLES_FILE,
        METRICS_FILE,
        HISTORY_FILE,
    }


def _begin_again(run: FinishedRun, lost: Collection[str]) -> None:
    """Make an unfinished run of it, in which everything is trained anew that came from what is lost."""
    unfinished = Run(run.path, Manifest(**dict(run.manifest)))
    unfinished.update(complete=False)
    if BASE_FILE in lost:
        # On another machine the base may get other last bits, of which old specialists would be no differences.
        unfinished.update(groupings=())
        unfinished.forget([name for name in run.manifest.files if name.startswith((SPECIALISTS, HEAD_FILE))])
