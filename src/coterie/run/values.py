"""A run's manifest and files -> the values that the stages hand on, and back."""

from __future__ import annotations

import re

import numpy as np
from torch import nn

from coterie.arrays import FloatArray, IntArray
from coterie.errors import ArtifactError, InputError
from coterie.inputs import Preprocessing, TokenPreprocessing
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.fitting import Combination
from coterie.routing.gate import Budget, GainModel, Gate
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate
from coterie.routing.tune import COMBINERS, Tuning
from coterie.run.contents import Kind, read_arrays, read_history
from coterie.run.folder import Run
from coterie.run.manifest import GainRecord, GateRecord, Manifest, TriedRecord
from coterie.run.names import (
    BASE_FILE,
    HEAD_FILE,
    SPECIALISTS,
    TOKENIZER_FILE,
    specialist_files,
)
from coterie.vocabulary import CombinerName

_COMBINERS: dict[str, CombinerName] = {name: name for name in COMBINERS}
# What Combination.title makes: "hard", "blend, weights by cluster, top 2".
_TITLE = re.compile(rf"({'|'.join(COMBINERS)})(, weights by cluster)?(?:, top (\d+))?")


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


def base_bytes(run: Run) -> int:
    """Size of the file with the base's weights.

    Raises:
        ArtifactError: there is none yet, or it has another size than the manifest says.
    """
    if BASE_FILE not in run.manifest.files:
        raise ArtifactError(f"{run.path} has no trained base yet")
    return run.bytes_of(BASE_FILE)


def weight_bytes(manifest: Manifest) -> int:
    """Size on disk of base and specialists: what must be kept to predict."""
    kept = {BASE_FILE, *specialist_files(partition_of(manifest))}
    return sum(record.bytes for name, record in manifest.files.items() if name in kept)


def preprocessing_of(run: Run) -> Preprocessing:
    """What makes the inputs of a run's networks.

    Raises:
        ArtifactError: the run does not say so yet, or its tokenizer is lost, another one, or unfit for use.
    """
    labels_of(run.manifest)
    assert run.manifest.data is not None  # labels_of checks
    form = run.manifest.data.input
    if not isinstance(form, TokenPreprocessing):
        return form
    try:
        return form.with_tokenizer(run.read(TOKENIZER_FILE).decode())
    except (InputError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{run.path / TOKENIZER_FILE} does not hold what it should: {error}") from None


def write_preprocessing(run: Run, form: Preprocessing) -> None:
    """Keep what the manifest does not hold of it."""
    if isinstance(form, TokenPreprocessing) and not run.has(TOKENIZER_FILE):
        run.write(TOKENIZER_FILE, form.tokenizer.encode())


def base_came_trained(run: Run) -> bool:
    """Whether a run's base was trained elsewhere, how is not known."""
    return run.manifest.seconds.get(BASE_FILE) == 0 and "base" not in read_history(run)


def members_of(partition: Partition) -> tuple[tuple[int, ...], ...]:
    """The classes of each cluster, as the manifest holds them."""
    return tuple(tuple(partition.classes(cluster).tolist()) for cluster in range(partition.n_clusters))


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


def tuning_of(manifest: Manifest) -> Tuning:
    """The rule of a run, and the table that it was chosen from; the inverse of ``record_of``, but for the chosen row,
    which a manifest does not name.

    Raises:
        ArtifactError: the run has no gate yet, or a row of its table names an unknown combiner.
    """
    record = gate_record(manifest)
    return Tuning(
        rule_of(manifest),
        None,
        tuple(_candidate(row) for row in record.tried),
        np.nan if record.accuracy is None else record.accuracy,
        record.note,
        Budget(**record.limits),
    )


def _candidate(row: TriedRecord) -> Candidate:
    match = _TITLE.fullmatch(row.combiner)
    if match is None:
        raise ArtifactError(f"the run's table of rules names an unknown combiner: {row.combiner!r}")
    name, by_cluster, top = match.groups()
    combination = Combination(_COMBINERS[name], int(top or 1), by_cluster is not None)
    return Candidate(combination, row.score, row.accuracy, row.gain, row.passes, row.routed)


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
        accuracy=None if np.isnan(tuning.accuracy) else tuning.accuracy,
        note=tuning.note,
        tried=tuple(
            TriedRecord(combiner=row.combination.title, **{k: v for k, v in vars(row).items() if k != "combination"})
            for row in tuning.candidates
        ),
    )


def write_head(run: Run, head: nn.Linear) -> None:
    """Keep the rows of the base's head, whatever kind of layer it is."""
    bias = {} if head.bias is None else {"bias_C": head.bias.detach().cpu().float().numpy()}
    run.write_arrays(HEAD_FILE, {"weight_CD": head.weight.detach().cpu().float().numpy(), **bias})


def read_head(run: Run) -> tuple[FloatArray, FloatArray | None]:
    """The rows of the base's head, (C, D), and its biases (C,), or None where it has none.

    Raises:
        ArtifactError: the file is missing or damaged, or does not hold them.
    """
    file, rows, biases = _where_rows_are(run)
    kinds: dict[str, tuple[Kind, str]] = {rows: ("numbers", "CD"), biases: ("numbers", "C")}
    arrays = read_arrays(run, file, kinds, {"C": len(labels_of(run.manifest))}, optional=(biases,))
    bias_C = arrays[biases].astype(np.float64) if biases in arrays else None
    return arrays[rows].astype(np.float64), bias_C


def _where_rows_are(run: Run) -> tuple[str, str, str]:
    """The file that holds the label embeddings, and the names there of the head's rows and biases."""
    if run.has(HEAD_FILE) or run.manifest.head is None:
        return HEAD_FILE, "weight_CD", "bias_C"
    # Runs of the first versions kept them only among the base's weights.
    return BASE_FILE, f"{run.manifest.head.path}.weight", f"{run.manifest.head.path}.bias"
