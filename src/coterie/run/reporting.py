"""Logits, figures and the report of a run: written, read, drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Unpack

from coterie.arrays import FloatArray, IntArray
from coterie.data.splits import Splits
from coterie.inputs import ImagePreprocessing
from coterie.measures.report import Report
from coterie.pages.run_page import Example, ReportContent, render
from coterie.partition import Partition
from coterie.partition.embedding import LabelEmbedding
from coterie.routing.evaluation import Outputs, Routing, evaluate
from coterie.routing.ladder import ladder_of
from coterie.routing.rule import Rule
from coterie.routing.tune import Tuning, TuningRequest, tune
from coterie.run.caution import caution_on
from coterie.run.contents import METRICS_FILE, Kind, read_arrays, read_figures, read_history, read_texts
from coterie.run.folder import REPORT, FinishedRun, Run
from coterie.run.manifest import FinishedManifest, Records
from coterie.run.names import (
    EXAMPLE_TEXTS_FILE,
    EXAMPLES_FILE,
    base_logits_file,
    outputs_file,
)
from coterie.run.values import (
    labels_of,
    partition_of,
    pass_cost_of,
    read_head,
    record_of,
    rule_of,
    train_counts_of,
    tuning_of,
    weight_bytes,
)
from coterie.vocabulary import SplitName

N_EXAMPLES = 12


def retune(run: FinishedRun, request: TuningRequest) -> tuple[Tuning, Report]:
    """Choose the rule of a finished run anew from its validation logits, and write it with all that follows from it:
    figures, report. Nothing is trained, and no test image has a say. How long an image takes is no longer known.

    Returns:
        The rule, and its figures on the test split.

    Raises:
        InputError: no candidate meets the budget.
        ArtifactError: another process writes to the run.
    """
    with run.writing():
        outputs: dict[SplitName, Outputs] = {
            "validation": read_outputs(run, "validation"),
            "test": read_outputs(run, "test"),
        }
        tuning = tune(outputs["validation"], partition_of(run.manifest), request, run.settings.seed)
        write_rule(run, tuning, outputs, costs=replace(run.manifest.costs, ensemble_image_ms=None))
        write_report(run, datetime.now(UTC).date().isoformat(), outputs["test"])
        return tuning, read_reports(run)["test"]


def write_rule(run: Run, tuning: Tuning, outputs: Mapping[SplitName, Outputs], **records: Unpack[Records]) -> None:
    """Put a rule into the manifest, together with its figures on validation and test.

    Args:
        run: whose partition is known.
        tuning: the rule, and what it was chosen from.
        outputs: the logits of each split.
        records: further records of the manifest, written in the same moment.
    """
    partition = partition_of(run.manifest)
    train_count_C = train_counts_of(run.manifest)
    reports = {
        name: evaluate(outputs[name], partition, tuning.rule, train_count_C).to_values()
        for name in ("validation", "test")
    }
    named: Records = {**records, "gate": record_of(tuning)}
    run.write_json(METRICS_FILE, reports, **named)


def write_outputs(run: Run, split: str, outputs: Outputs) -> None:
    """Keep logits and labels, so that gates can be chosen again without training."""
    run.write_arrays(
        outputs_file(split),
        {"base_NC": outputs.base_NC, "packed_NM": outputs.packed_NM, "label_N": outputs.label_N},
    )


def read_base_logits(run: Run, split: str) -> tuple[FloatArray, IntArray] | None:
    """The base's logits of a split, of shape (N, C), and the true classes; None where it was not asked yet."""
    for name, key in ((outputs_file(split), "base_NC"), (base_logits_file(split), "logits_NC")):
        if run.has(name):
            arrays = read_logits(run, name, {key: "NC"})
            return arrays[key], arrays["label_N"]
    return None


def read_logits(run: Run, name: str, axes: Mapping[str, str], **sizes: int) -> dict[str, NDArray[Any]]:
    """Logits of a split, and its labels ``label_N``.

    Args:
        run: the run.
        name: of the file.
        axes: of each array of logits, a letter each: N samples, C classes, M columns of all specialists.
        sizes: of other letters.

    Raises:
        ArtifactError: as ``contents.read_arrays``.
    """
    manifest = run.manifest
    known = {"C": len(labels_of(manifest)), **sizes}
    if any("M" in letters for letters in axes.values()):
        known["M"] = len(partition_of(manifest).packed_class_M)
    kinds: dict[str, tuple[Kind, str]] = {key: ("numbers", letters) for key, letters in axes.items()}
    return read_arrays(run, name, {**kinds, "label_N": ("labels", "N")}, known)


def read_outputs(run: Run, split: str) -> Outputs:
    """The inverse of ``write_outputs``."""
    arrays = read_logits(run, outputs_file(split), {"base_NC": "NC", "packed_NM": "NM"})
    return Outputs(**arrays, pass_cost=pass_cost_of(run.manifest))


def write_examples(run: Run, outputs: Outputs, partition: Partition, rule: Rule, splits: Splits) -> None:
    """Keep a dozen samples on which base and ensemble differ, for the report: pixels, or what there is to read."""
    row_E = _choose_examples(outputs, partition, rule)
    samples = splits.test.samples
    if isinstance(splits.preprocessing, ImagePreprocessing):
        pixels_EHWC = samples.read(torch.from_numpy(row_E)).numpy()
        run.write_arrays(EXAMPLES_FILE, {"row_E": row_E, "pixels_EHWC": pixels_EHWC})
    else:
        run.write_arrays(EXAMPLES_FILE, {"row_E": row_E})
        run.write_json(EXAMPLE_TEXTS_FILE, [samples.show(row) for row in row_E.tolist()])


def _choose_examples(outputs: Outputs, partition: Partition, rule: Rule) -> IntArray:
    """At random, with a fixed seed: half of those that the ensemble corrected, half of those that it spoiled."""
    base_N, ensemble_N = Routing.of(outputs, partition, rule).answers()
    right_N, was_right_N = ensemble_N == outputs.label_N, base_N == outputs.label_N
    rng = np.random.default_rng(0)
    kinds = (right_N & ~was_right_N, was_right_N & ~right_N)
    return np.concatenate([rng.permutation(np.flatnonzero(kind))[: N_EXAMPLES // 2] for kind in kinds])


def read_reports(run: Run) -> dict[str, Report]:
    """The figures of a finished run, by split."""
    return read_figures(run, len(labels_of(run.manifest)), partition_of(run.manifest).n_clusters)


def tracked_figures(run: Run) -> dict[str, float]:
    """What a tracker shows of a finished run: figures by name."""
    test, manifest = read_reports(run)["test"], run.manifest
    threshold = rule_of(manifest).gate.threshold
    return {
        "test/base": test.base_top1,
        "test/ensemble": test.ensemble_top1,
        "test/gain": test.gain,
        "router/accuracy": test.router_accuracy,
        "gate/routed": test.routed_fraction,
        "gate/mean-passes": test.mean_passes,
        **({} if not np.isfinite(threshold) else {"gate/threshold": threshold}),
        **{f"cluster-{row.cluster}/base": row.base_top1 for row in test.clusters},
        **{f"cluster-{row.cluster}/restricted-base": row.restricted_top1 for row in test.clusters},
        **{f"cluster-{row.cluster}/specialist": row.specialist_top1 for row in test.clusters},
        **{f"seconds/{name}": seconds for name, seconds in manifest.seconds.items()},
    }


def write_report(run: Run, created: str, test: Outputs | None = None) -> None:
    """Draw the report anew from what the folder holds.

    Args:
        run: with all records of a finished run.
        created: an ISO date.
        test: the logits of the test split. Default: those in the folder.
    """
    content = _report_content(run, created, read_outputs(run, "test") if test is None else test)
    run.write(REPORT, render(content).encode())


def _report_content(run: Run, created: str, test: Outputs) -> ReportContent:
    # The report is one of the last files of a run, so all records are there, though the run is not complete yet.
    manifest = FinishedManifest(**{**dict(run.manifest), "complete": True})
    reports = read_reports(run)
    settings = manifest.settings
    history = read_history(run)
    return ReportContent(
        about=manifest.data.about.rstrip(".") + ".",
        backbone=settings.backbone,
        labels=labels_of(manifest),
        partition=partition_of(manifest),
        similarity_CC=LabelEmbedding(read_head(run)[0]).similarity_CC(),
        test=reports["test"],
        validation=reports["validation"],
        ladder=ladder_of(test, partition_of(manifest), rule_of(manifest)),
        candidates=tuple((c.clusters, c.accuracy) for c in manifest.partition.candidates),
        tuning=tuning_of(manifest),
        examples=_read_examples(run, test),
        costs=manifest.costs,
        storage_bytes=weight_bytes(manifest),
        histories=tuple(
            (title, tuple(r.loss for r in records), tuple(r.accuracy for r in records))
            for title, records in history.items()
        ),
        settings_yaml=settings.to_yaml(),
        versions=manifest.versions,
        created=created,
        n_unknown=manifest.data.n_unknown,
        caution=caution_on(manifest.data, "test"),
    )


def _read_examples(run: Run, outputs: Outputs) -> tuple[Example, ...]:
    """The kept samples on which base and ensemble differ: fewer than were kept if the rule has changed since."""
    partition, rule = partition_of(run.manifest), rule_of(run.manifest)
    row_E, shown = _read_shown(run, len(outputs.label_N))
    if not len(row_E):  # base and ensemble gave the same answers
        return ()
    kept = outputs.take(row_E)
    routing = Routing.of(kept, partition, rule)
    base_E, ensemble_E = routing.answers()
    return tuple(
        Example(
            sample=shown[place],
            label=int(kept.label_N[place]),
            base_logits_C=kept.base_NC[place],
            cluster=(cluster := int(routing.cluster_N[place])),
            specialist_logits=kept.packed_NM[place, partition.columns(cluster)],
            base_class=int(base_E[place]),
            ensemble_class=int(ensemble_E[place]),
            score=float(routing.score_N[place]),
        )
        for place in np.flatnonzero(base_E != ensemble_E).tolist()
    )


def _read_shown(run: Run, n_test: int) -> tuple[IntArray, NDArray[Any] | Sequence[str]]:
    """Rows of the kept samples among those of the test split, and what to show of each."""
    form = None if run.manifest.data is None else run.manifest.data.input
    kinds: dict[str, tuple[Kind, str]] = {"row_E": ("rows", "E")}
    sizes = {"R": n_test}
    if isinstance(form, ImagePreprocessing):
        kinds["pixels_EHWC"] = ("pixels", "EHWc")
        sizes |= {"H": form.height, "W": form.width, "c": form.channels}
    arrays = read_arrays(run, EXAMPLES_FILE, kinds, sizes)
    row_E = arrays["row_E"]
    if isinstance(form, ImagePreprocessing):
        return row_E, arrays["pixels_EHWC"]
    return row_E, read_texts(run, EXAMPLE_TEXTS_FILE, len(row_E))
