"""Specialists of which only a part is trained: what they gain, take to train, and weigh.

Question: from the bases of finished runs, do specialists whose last parts alone are trained give 85 % of the gain of
whole ones, in 40 % of the training time, and 1.6 times the base's storage?

Every training is a run in OUT, which resumes; seconds are compared with whole specialists trained here too.
"""

import sys
from pathlib import Path

import numpy as np

import coterie
import record
from coterie import artifact
from coterie.config import FitSettings
from coterie.data import load
from coterie.evaluation import evaluate
from coterie.gate import Budget
from coterie.run_folder import Run
from coterie.tune import Request, tune

PARTS = ("all", "last-3", "last-2", "head")


def train(path: Path, part: str, out: Path) -> Run:
    """The run's specialists once more, of which a part is trained, on one thread."""
    values = Run.open_complete(path).manifest.settings
    values = {**values, "specialist": {**values["specialist"], "trainable": part}}
    settings = FitSettings.from_values({**values, "hardware": {**values["hardware"], "threads": 1}})
    coterie.fit(settings, out, splits=load(settings.data, settings.seed), base_run=path)
    return Run.open_complete(out)


def figures(run: Run) -> list[float]:
    """Gain in points, and passes, by the best rule of 1.5 passes; seconds of training; storage over the base's."""
    partition = artifact.partition_of(run.manifest)
    rule = tune(artifact.read_outputs(run, "validation"), partition, Request(budget=Budget(passes=1.5))).rule
    report = evaluate(artifact.read_outputs(run, "test"), partition, rule)
    sizes = {name: file.bytes for name, file in run.manifest.files.items()}
    weights = sum(size for name, size in sizes.items() if name.startswith((artifact.BASE_FILE, "specialists/")))
    seconds = sum(spent for name, spent in run.manifest.seconds.items() if name.startswith("specialists/"))
    return [100 * report.gain, report.mean_passes, seconds, weights / sizes[artifact.BASE_FILE]]


def main(out: str, *paths: str) -> None:
    """All parts from the bases of all runs; means over the runs."""
    found = {
        part: np.mean([figures(train(Path(p), part, Path(out) / f"{k}-{part}")) for k, p in enumerate(paths)], axis=0)
        for part in PARTS
    }
    whole = found["all"]
    lines = [
        f"Means over {len(paths)} runs, on test.",
        "",
        "| trained | gain, points | of the whole's | passes | training, of the whole's | storage, of the base's |",
        "|---|---|---|---|---|---|",
    ]
    for part, (gain, passes, seconds, storage) in found.items():
        shares = f"{gain / whole[0]:.0%} | {passes:.2f} | {seconds / whole[2]:.0%}"
        lines.append(f"| {part} | {gain:+.2f} | {shares} | {storage:.2f} |")
    record.write(__file__, "\n".join(lines))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/trained_parts.py OUT RUN [RUN ...]")
    main(*sys.argv[1:])
