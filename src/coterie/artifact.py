"""A trained ensemble in a run folder: saved by the pipeline, loaded here. Loading runs no code from the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from coterie.backbones import Head, build
from coterie.config import DataSettings, FitSettings, HardwareSettings
from coterie.data import load as load_data
from coterie.data.splits import Preprocessing, Split
from coterie.embedding import LabelEmbedding
from coterie.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, DataError
from coterie.evaluation import Outputs, Routing
from coterie.gate import Gate
from coterie.labels import LabelSpace
from coterie.metrics import Report
from coterie.partition import IntArray, Partition
from coterie.report import Costs, Example, ReportContent, render
from coterie.run_folder import REPORT, GateRecord, Manifest, Run
from coterie.specialist import make_specialist

BASE_FILE = "base.safetensors"
EXAMPLES_FILE = "examples.safetensors"
STAGE_LOGITS = "logits/stages/"
N_EXAMPLES = 12


def specialist_folder(n_clusters: int) -> str:
    """Where the specialists of a partition are."""
    return f"specialists/{n_clusters}/"


def specialist_file(n_clusters: int, cluster: int) -> str:
    """Where the weights of a cluster's specialist are."""
    return f"{specialist_folder(n_clusters)}{cluster}.safetensors"


def outputs_file(split: str) -> str:
    """Where the logits of a split are."""
    return f"logits/{split}.safetensors"


def stage_logits_folder(split: str) -> str:
    """Where the logits of each network on a split are kept until they are put together."""
    return f"{STAGE_LOGITS}{split}/"


def load_ensemble(path: Path | str, hardware: HardwareSettings | None = None) -> SpecialistEnsemble:
    """The ensemble of a finished run, ready to predict.

    Args:
        path: the run folder.
        hardware: device and precision; those that the run was trained with if left out.

    Raises:
        ArtifactError: there is no finished run, its format is newer, or files are missing or damaged (named).
    """
    run = Run.open_complete(Path(path))
    manifest = run.manifest
    settings = FitSettings.from_values(manifest.settings)
    labels, partition = labels_of(manifest), partition_of(manifest)
    assert manifest.data is not None  # run.open_complete and partition_of checked
    assert manifest.head is not None
    preprocessing = Preprocessing(**manifest.data.model_dump(exclude={"about", "classes"}))
    base = build(settings.backbone, len(labels), preprocessing.channels, settings.seed)
    head = Head(**manifest.head.model_dump())
    specialists = []
    for cluster in range(partition.n_clusters):
        classes = partition.classes(cluster)
        specialist = make_specialist(base, head, classes) if len(classes) > 1 else None
        if specialist is not None:
            run.read_weights(specialist_file(partition.n_clusters, cluster), specialist)
        specialists.append(specialist)
    run.read_weights(BASE_FILE, base)
    return SpecialistEnsemble(
        base,
        specialists,
        partition,
        labels,
        gate_of(manifest),
        gate_record(manifest).combiner,
        preprocessing,
        hardware or settings.hardware,
    )


def labels_of(manifest: Manifest) -> LabelSpace:
    """The classes of a run."""
    if manifest.data is None:
        raise ArtifactError("the run holds no record of its classes: it was cut short before its data was read")
    return LabelSpace(manifest.data.classes)


def partition_of(manifest: Manifest) -> Partition:
    """The partition of a run."""
    if manifest.partition is None:
        raise ArtifactError("the run has no partition yet: it was cut short")
    return Partition.from_members(manifest.partition.members, len(labels_of(manifest)))


def gate_record(manifest: Manifest) -> GateRecord:
    """How a run routes."""
    if manifest.gate is None:
        raise ArtifactError("the run has no gate yet: it was cut short")
    return manifest.gate


def gate_of(manifest: Manifest) -> Gate:
    """The gate of a run."""
    threshold = gate_record(manifest).threshold
    return Gate(np.inf if threshold is None else threshold)


def write_outputs(run: Run, split: str, outputs: Outputs) -> None:
    """Keep logits and labels, so that gates can be chosen again without training."""
    run.write_arrays(
        outputs_file(split),
        {"base_NC": outputs.base_NC, "packed_NM": outputs.packed_NM, "label_N": outputs.label_N},
    )


def read_outputs(run: Run, split: str) -> Outputs:
    """The inverse of ``write_outputs``."""
    return Outputs(**run.read_arrays(outputs_file(split)))


def write_examples(run: Run, outputs: Outputs, ensemble: SpecialistEnsemble, split: Split) -> None:
    """Keep the pixels of a dozen images on which base and ensemble differ, for the report."""
    row_E = _choose_examples(outputs, ensemble)
    run.write_arrays(EXAMPLES_FILE, {"row_E": row_E, "pixels_EHWC": split.images.read(torch.from_numpy(row_E)).numpy()})


def _choose_examples(outputs: Outputs, ensemble: SpecialistEnsemble) -> IntArray:
    """At random, with a fixed seed: half of those that the ensemble corrected, half of those that it spoiled."""
    routing = Routing.of(outputs, ensemble.partition, ensemble.combiner)
    routed_N = routing.score_N >= ensemble.gate.threshold
    base_N, routed_right_N = routing.right(outputs.label_N)
    rng = np.random.default_rng(0)
    kinds = (routed_N & routed_right_N & ~base_N, routed_N & base_N & ~routed_right_N)
    return np.concatenate([rng.permutation(np.flatnonzero(kind))[: N_EXAMPLES // 2] for kind in kinds])


def read_reports(run: Run) -> dict[str, Report]:
    """The figures of a finished run, by split."""
    return {name: Report.from_values(values) for name, values in run.read_json("metrics.json").items()}


def tracked_figures(run: Run) -> dict[str, float]:
    """What a tracker shows of a finished run: figures by name."""
    test, manifest = read_reports(run)["test"], run.manifest
    threshold = gate_record(manifest).threshold
    return {
        "test/base": test.base_top1,
        "test/ensemble": test.ensemble_top1,
        "test/gain": test.gain,
        "router/accuracy": test.router_accuracy,
        "gate/routed": test.routed_fraction,
        "gate/mean-passes": test.mean_passes,
        **({} if threshold is None else {"gate/threshold": threshold}),
        **{f"cluster-{row.cluster}/base": row.base_top1 for row in test.clusters},
        **{f"cluster-{row.cluster}/restricted-base": row.restricted_top1 for row in test.clusters},
        **{f"cluster-{row.cluster}/specialist": row.specialist_top1 for row in test.clusters},
        **{f"seconds/{name}": seconds for name, seconds in manifest.seconds.items()},
    }


def write_report(run: Run, created: str) -> None:
    """Draw the report anew from what the folder holds."""
    run.write(REPORT, render(_report_content(run, created)).encode())


def _report_content(run: Run, created: str) -> ReportContent:
    manifest = run.manifest
    reports = read_reports(run)
    assert manifest.data is not None  # labels_of checks
    assert manifest.head is not None
    assert manifest.partition is not None  # partition_of checks
    assert manifest.costs is not None
    settings = FitSettings.from_values(manifest.settings)
    head_weight = safetensors.torch.load(run.read(BASE_FILE))[f"{manifest.head.path}.weight"]
    history = run.read_json("history.json")
    costs = manifest.costs.model_dump()
    return ReportContent(
        about=manifest.data.about.rstrip(".") + ".",
        backbone=settings.backbone,
        labels=labels_of(manifest),
        partition=partition_of(manifest),
        similarity_CC=LabelEmbedding(head_weight.double().numpy()).similarity_CC(),
        test=reports["test"],
        validation=reports["validation"],
        candidates=tuple((c.clusters, c.accuracy) for c in manifest.partition.candidates),
        examples=_read_examples(run),
        costs=Costs(**costs, storage_bytes=_weight_bytes(manifest)),
        histories=tuple(
            (title, tuple(r["loss"] for r in records), tuple(r["accuracy"] for r in records))
            for title, records in history.items()
        ),
        settings_yaml=settings.to_yaml(),
        versions=manifest.versions,
        created=created,
    )


def _weight_bytes(manifest: Manifest) -> int:
    """Size on disk of base and specialists: what must be kept to predict."""
    kept = (BASE_FILE, specialist_folder(partition_of(manifest).n_clusters))
    return sum(record.bytes for name, record in manifest.files.items() if name.startswith(kept))


def _read_examples(run: Run) -> tuple[Example, ...]:
    manifest = run.manifest
    outputs, partition = read_outputs(run, "test"), partition_of(manifest)
    routing = Routing.of(outputs, partition, gate_record(manifest).combiner)
    stored = run.read_arrays(EXAMPLES_FILE)
    examples = []
    for row, pixels_HWC in zip(stored["row_E"].tolist(), stored["pixels_EHWC"], strict=True):
        cluster = int(routing.cluster_N[row])
        examples.append(
            Example(
                pixels_HWC=pixels_HWC,
                label=int(outputs.label_N[row]),
                base_logits_C=outputs.base_NC[row],
                cluster=cluster,
                specialist_logits=outputs.packed_NM[row, partition.columns(cluster)],
                base_class=int(routing.base_proba_NC[row].argmax()),
                ensemble_class=int(routing.routed_proba_NC[row].argmax()),
                entropy=float(routing.score_N[row]),
            )
        )
    return tuple(examples)


def outputs_on(run: Run, source: str, split: str) -> Outputs:
    """Run base and specialists over other labelled images with the same classes.

    Raises:
        DataError: the source is broken, or its classes are not the run's.
    """
    ensemble = load_ensemble(run.path)
    settings = FitSettings.from_values(run.manifest.settings)
    form = ensemble.preprocessing
    size = {"image_size": form.height} if form.height == form.width else {}
    data = DataSettings(**{**settings.data.model_dump(), "source": source, **size})
    splits = load_data(data, settings.seed)
    if splits.labels != ensemble.labels:
        unknown = sorted(set(splits.labels.names) ^ set(ensemble.labels.names))
        raise DataError(
            f"{source} has other classes than the run; they differ in: {', '.join(unknown[:10]) or 'order'}"
        )
    chosen = splits.validation if split == "validation" else splits.test
    return ensemble.outputs(chosen.images, chosen.labels_N.numpy())
