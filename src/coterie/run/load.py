"""A trained ensemble in a run folder: saved by the pipeline, loaded here. Loading runs no code from the folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.base import rebuild_base
from coterie.backbones.head import Head
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import DataSettings, FitSettings, HardwareSettings
from coterie.data import load as load_data
from coterie.data.additions import read_additions
from coterie.data.splits import Splits
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ArtifactError, DataError
from coterie.inputs import ImagePreprocessing, Preprocessing, TokenPreprocessing
from coterie.labels import LabelSpace
from coterie.measures.metrics import Report
from coterie.pages.run_page import Costs, Example, ReportContent, render
from coterie.partition import Partition
from coterie.partition.embedding import LabelEmbedding
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, Routing, evaluate
from coterie.routing.gate import GainModel, Gate
from coterie.routing.ladder import account
from coterie.routing.rule import Rule
from coterie.routing.tune import Request, Tuning, tune
from coterie.run.folder import REPORT, GainRecord, GateRecord, Manifest, Run, TriedRecord
from coterie.system.lock import hold

BASE_FILE = "base.safetensors"
SPECIALISTS = "specialists/"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"
EXAMPLES_FILE = "examples.safetensors"
STAGE_LOGITS = "logits/stages/"
EXAMPLE_TEXTS_FILE = "examples.json"
N_EXAMPLES = 12


def specialist_files(partition: Partition) -> tuple[str, ...]:
    """Where the weights of each cluster's specialist are; a cluster of one class has none."""
    return tuple(f"{SPECIALISTS}{n_clusters}/{place}.safetensors" for place, n_clusters in _places(partition))


def specialist_titles(partition: Partition) -> tuple[str, ...]:
    """What each cluster's specialist is called, in the history too."""
    return tuple(f"specialist {place} of {n_clusters}" for place, n_clusters in _places(partition))


def _places(partition: Partition) -> Iterator[tuple[int, int]]:
    """Where each cluster stands among those of its layer, and how many these are."""
    return ((place, len(cluster_L)) for cluster_L in partition.layers for place in range(len(cluster_L)))


def outputs_file(split: str) -> str:
    """Where the logits of a split are."""
    return f"logits/{split}.safetensors"


def stage_logits_folder(split: str) -> str:
    """Where the logits of each network on a split are kept until they are put together."""
    return f"{STAGE_LOGITS}{split}/"


def base_logits_file(split: str) -> str:
    """Where the base's own logits of a split are until the run is finished."""
    return f"{stage_logits_folder(split)}{BASE_FILE}"


def load_ensemble(
    path: Path | str,
    hardware: HardwareSettings | None = None,
    *,
    base: nn.Module | None = None,
    trust: str | None = None,
) -> SpecialistEnsemble:
    """The ensemble of a finished run, ready to predict.

    Args:
        path: the run folder.
        hardware: device and precision; those that the run was trained with if left out.
        base: for a run whose base was passed from Python or built by a function: a network of the same form. It is
            copied, and gets the run's weights.
        trust: ``module:function``; that function may be called to build the base of a run that names it.

    Raises:
        ArtifactError: there is no finished run, its format is newer, files are missing or damaged (named), or its base
            can only be built by code that nobody said to trust.
    """
    run = Run.open_complete(Path(path))
    manifest, preprocessing = run.manifest, preprocessing_of(run)
    labels, partition = labels_of(manifest), partition_of(manifest)
    network, head = load_base(run, preprocessing, base, trust)
    specialists = []
    for cluster, file in enumerate(specialist_files(partition)):
        classes = partition.classes(cluster)
        specialist = make_specialist(network, head, classes) if len(classes) > 1 else None
        if specialist is not None:
            run.read_weights(file, specialist, network)
            specialist = as_asked(specialist, cut_of(manifest), preprocessing.example())
        specialists.append(specialist)
    return SpecialistEnsemble(
        network,
        specialists,
        partition,
        labels,
        rule_of(manifest),
        preprocessing,
        hardware or FitSettings.from_values(manifest.settings).hardware,
        cut_of(manifest),
    )


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
    manifest, settings = run.manifest, FitSettings.from_values(run.manifest.settings)
    assert manifest.head is not None  # a finished run has one
    n_classes = len(labels_of(manifest))
    network, head = rebuild_base(settings, manifest.network, manifest.head, n_classes, preprocessing, base, trust)
    run.read_weights(BASE_FILE, network)
    return network, head


def labels_of(manifest: Manifest) -> LabelSpace:
    """The classes of a run."""
    if manifest.data is None:
        raise ArtifactError("the run holds no record of its classes: it was cut short before its data was read")
    return LabelSpace(manifest.data.classes)


def cut_of(manifest: Manifest) -> str | None:
    """The module of the base whose output the specialists of a run take; None where they are whole networks."""
    return None if manifest.trunk is None else manifest.trunk.cut


def pass_cost_of(manifest: Manifest) -> float:
    """Operations of a specialist's pass in those of the base's."""
    return 1.0 if manifest.trunk is None else manifest.trunk.pass_cost


def n_tried(manifest: Manifest) -> int:
    """Partitions whose specialists were trained one after another, to keep those of the best."""
    assert manifest.partition is not None  # partition_of checks
    return max(1, len(manifest.partition.candidates))


def specialist_seconds(manifest: Manifest) -> float:
    """What the training of all specialists took, of partitions that were tried and not kept too."""
    return sum(seconds for name, seconds in manifest.seconds.items() if name.startswith(SPECIALISTS))


def weight_bytes(manifest: Manifest) -> int:
    """Size on disk of base and specialists: what must be kept to predict."""
    kept = {BASE_FILE, *specialist_files(partition_of(manifest))}
    return sum(record.bytes for name, record in manifest.files.items() if name in kept)


def preprocessing_of(run: Run) -> Preprocessing:
    """What makes the inputs of a run's networks.

    Raises:
        ArtifactError: the run does not say so yet, or has lost its tokenizer.
    """
    labels_of(run.manifest)
    assert run.manifest.data is not None  # labels_of checks
    form = run.manifest.data.input
    return replace(form, tokenizer=run.read(TOKENIZER_FILE).decode()) if isinstance(form, TokenPreprocessing) else form


def write_preprocessing(run: Run, form: Preprocessing) -> None:
    """Keep what the manifest does not hold of it."""
    if isinstance(form, TokenPreprocessing) and not run.has(TOKENIZER_FILE):
        run.write(TOKENIZER_FILE, form.tokenizer.encode())


def base_came_trained(run: Run) -> bool:
    """Whether a run's base was trained elsewhere, how is not known."""
    return run.manifest.seconds.get(BASE_FILE) == 0 and "base" not in run.read_json("history.json")


def train_counts_of(manifest: Manifest) -> IntArray | None:
    """Training samples of each class; None for a run of an earlier version, which did not count them."""
    return np.array(manifest.train_counts) if manifest.train_counts else None


def partition_of(manifest: Manifest) -> Partition:
    """The partition of a run."""
    if manifest.partition is None:
        raise ArtifactError("the run has no partition yet: it was cut short")
    return Partition.from_members(manifest.partition.members, len(labels_of(manifest)), manifest.partition.layers)


def gate_record(manifest: Manifest) -> GateRecord:
    """How a run routes and combines, and what that was chosen from."""
    if manifest.gate is None:
        raise ArtifactError("the run has no gate yet: it was cut short")
    return manifest.gate


def rule_of(manifest: Manifest) -> Rule:
    """The rule of a run."""
    record = gate_record(manifest)
    model = None if record.gain is None else GainModel(**record.gain.model_dump())
    return Rule(
        Gate(np.inf if record.threshold is None else record.threshold, record.score, model),
        Combiner.named(record.combiner, record.weights, record.top, record.temperature),
        Temperatures(record.base_temperature, record.specialist_temperatures),
    )


def record_of(tuning: Tuning) -> GateRecord:
    """A rule as the manifest holds it, with the table that it was chosen from."""
    rule, model = tuning.rule, tuning.rule.gate.model
    return GateRecord(
        score=rule.gate.score,
        combiner=rule.combiner.name,
        threshold=rule.gate.threshold if np.isfinite(rule.gate.threshold) else None,
        weights=rule.combiner.weight_S,
        top=rule.combiner.top,
        temperature=rule.combiner.temperature,
        base_temperature=rule.temperatures.base,
        specialist_temperatures=rule.temperatures.specialist_S,
        gain=None if model is None else GainRecord(**vars(model)),
        limits={name: limit for name, limit in vars(tuning.budget).items() if limit is not None},
        accuracy=tuning.accuracy,
        note=tuning.note,
        tried=tuple(
            TriedRecord(combiner=row.combination.title, **{k: v for k, v in vars(row).items() if k != "combination"})
            for row in tuning.candidates
        ),
    )


def retune(run: Run, request: Request) -> Tuning:
    """Choose the rule of a finished run anew from its validation logits, and write it with all that follows from it:
    figures, report. Nothing is trained, and no test image has a say. How long an image takes is no longer known.

    Raises:
        InputError: no candidate meets the budget.
        ArtifactError: another process writes to the run.
    """
    manifest, partition = run.manifest, partition_of(run.manifest)
    seed = FitSettings.from_values(manifest.settings).seed
    tuning = tune(read_outputs(run, "validation"), partition, request, seed)
    costs = None if manifest.costs is None else manifest.costs.model_copy(update={"ensemble_image_ms": None})
    with hold(run.path):
        write_rule(run, tuning, costs=costs)
        write_report(run, datetime.now(UTC).date().isoformat())
    return tuning


def write_rule(run: Run, tuning: Tuning, **records: Any) -> None:
    """Put a rule into the manifest, together with its figures on the stored logits of validation and test."""
    partition = partition_of(run.manifest)
    train_count_C = train_counts_of(run.manifest)
    reports = {
        name: evaluate(read_outputs(run, name), partition, tuning.rule, train_count_C).to_values()
        for name in ("validation", "test")
    }
    run.write_json("metrics.json", reports, gate=record_of(tuning), **records)


def write_head(run: Run, head: nn.Linear) -> None:
    """Keep the rows of the base's head, whatever kind of layer it is."""
    bias = {} if head.bias is None else {"bias_C": head.bias.detach().cpu().float().numpy()}
    run.write_arrays(HEAD_FILE, {"weight_CD": head.weight.detach().cpu().float().numpy(), **bias})


def where_rows_are(run: Run) -> tuple[str, str, str]:
    """The file that holds the label embeddings, and the names there of the head's rows and biases."""
    if run.has(HEAD_FILE) or run.manifest.head is None:
        return HEAD_FILE, "weight_CD", "bias_C"
    # Runs of the first versions kept them only among the base's weights.
    return BASE_FILE, f"{run.manifest.head.path}.weight", f"{run.manifest.head.path}.bias"


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
            arrays = run.read_arrays(name)
            return arrays[key], arrays["label_N"]
    return None


def read_outputs(run: Run, split: str) -> Outputs:
    """The inverse of ``write_outputs``."""
    return Outputs(**run.read_arrays(outputs_file(split)), pass_cost=pass_cost_of(run.manifest))


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
    base_N, ensemble_N = Routing.of(outputs, partition, rule).answers(rule)
    right_N, was_right_N = ensemble_N == outputs.label_N, base_N == outputs.label_N
    rng = np.random.default_rng(0)
    kinds = (right_N & ~was_right_N, was_right_N & ~right_N)
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
    head_file, rows, _ = where_rows_are(run)
    history = run.read_json("history.json")
    costs = manifest.costs.model_dump()
    return ReportContent(
        about=manifest.data.about.rstrip(".") + ".",
        backbone=settings.backbone,
        labels=labels_of(manifest),
        partition=partition_of(manifest),
        similarity_CC=LabelEmbedding(run.read_arrays(head_file)[rows].astype(np.float64)).similarity_CC(),
        test=reports["test"],
        validation=reports["validation"],
        accounting=account(read_outputs(run, "test"), partition_of(manifest), rule_of(manifest)),
        candidates=tuple((c.clusters, c.accuracy) for c in manifest.partition.candidates),
        gate=gate_record(manifest),
        examples=_read_examples(run),
        costs=Costs(**costs, storage_bytes=weight_bytes(manifest)),
        histories=tuple(
            (title, tuple(r["loss"] for r in records), tuple(r["accuracy"] for r in records))
            for title, records in history.items()
        ),
        settings_yaml=settings.to_yaml(),
        versions=manifest.versions,
        created=created,
    )


def _read_examples(run: Run) -> tuple[Example, ...]:
    """The kept images on which base and ensemble differ: fewer than were kept if the rule has changed since."""
    manifest = run.manifest
    outputs, partition, rule = read_outputs(run, "test"), partition_of(manifest), rule_of(manifest)
    stored = run.read_arrays(EXAMPLES_FILE)
    shown = stored["pixels_EHWC"] if "pixels_EHWC" in stored else run.read_json(EXAMPLE_TEXTS_FILE)
    if not len(stored["row_E"]):  # base and ensemble gave the same answers
        return ()
    kept = outputs.take(stored["row_E"])
    routing = Routing.of(kept, partition, rule)
    base_E, ensemble_E = routing.answers(rule)
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


def outputs_on(run: Run, source: str, split: str, trust: str | None = None) -> Outputs:
    """Run base and specialists over other labelled samples with the same classes: a split of them, cut out where the
    source has none, or ``all``, which may lack some of the classes.

    Raises:
        DataError: the source is broken, or its classes are not the run's.
    """
    ensemble = load_ensemble(run.path, trust=trust)
    settings = FitSettings.from_values(run.manifest.settings)
    form = ensemble.preprocessing
    if split == "all":
        return replace(_outputs_on_all(ensemble, source, settings.data), pass_cost=pass_cost_of(run.manifest))
    size = {"image_size": form.height} if isinstance(form, ImagePreprocessing) and form.height == form.width else {}
    data = DataSettings(**{**settings.data.model_dump(), "source": source, "configuration": None, **size})
    splits = load_data(data, settings.seed, form)
    _refuse_classes(source, set(splits.labels.names) ^ set(ensemble.labels.names))
    chosen = splits.validation if split == "validation" else splits.test
    # The run's order may be another, with a class at the end that was added to it.
    place_C = np.array([ensemble.labels.names.index(name) for name in splits.labels.names])
    outputs = ensemble.outputs(chosen.samples, place_C[chosen.labels_N.numpy()])
    return replace(outputs, pass_cost=pass_cost_of(run.manifest))


def _outputs_on_all(ensemble: SpecialistEnsemble, source: str, settings: DataSettings) -> Outputs:
    names = ensemble.labels.names
    found = read_additions(source, ensemble.preprocessing, settings)
    _refuse_classes(source, set(found) - set(names))
    parts = [
        ensemble.outputs(samples, np.full(len(samples), names.index(name), dtype=np.int64))
        for name, samples in found.items()
    ]
    return Outputs(
        np.concatenate([part.base_NC for part in parts]),
        np.concatenate([part.packed_NM for part in parts]),
        np.concatenate([part.label_N for part in parts]),
    )


def _refuse_classes(source: str, unknown: set[str]) -> None:
    if unknown:
        named = ", ".join(sorted(unknown)[:10])
        raise DataError(f"{source} has other classes than the run; they differ in: {named}")
