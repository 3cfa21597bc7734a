"""A finished run to a folder of graphs, checked against the run on real samples."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import coterie
from coterie.arrays import FloatArray
from coterie.config import DataSettings, HardwareSettings
from coterie.data import load as load_data
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.errors import ExportError, SettingsError
from coterie.export.graphs import graphs_of
from coterie.export.targets import INPUT, TARGETS, Runner, TargetName, WeightsName, program_of
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples, TokenPreprocessing
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.names import TOKENIZER_FILE
from coterie.run.values import members_of

DESCRIPTION = "export.json"
# Of the layout of the description.
FORMAT = 1
MOST_SAMPLES = 2000
EXACT = HardwareSettings(accelerator="cpu", precision="fp32")


@dataclass(frozen=True)
class Parity:
    """The exported graphs beside the run on real samples, with the target's own program and in float32.

    ``samples``: their number; ``largest_difference``: of a probability; ``changed_answers``: samples of which another
    class is the likeliest.
    """

    samples: int
    largest_difference: float
    changed_answers: int


def export_run(
    path: Path,
    target: TargetName,
    folder: Path,
    *,
    weights: WeightsName = "fp32",
    raw: bool = False,
    source: str | None = None,
    trust: str | None = None,
) -> Parity:
    """Write a run's networks as graphs for any number of samples, with a description beside them.

    Where the specialists share the base's trunk, it is one graph with base, tails and rule; else one graph for each
    network, and the rule stands in the description.

    Args:
        path: of a finished run.
        target: kind of file.
        folder: to make; it appears whole or not at all.
        weights: fp16 halves the networks, which then compute in float16; int8, of ONNX, keeps their weights in 8 bits
            and restores them to compute. The rule computes in float32.
        raw: have the preprocessing in the graph, which then takes samples as they are read, such as uint8 pixels.
        source: of samples to compare on, as ``data.source``; default: the run's own.
        trust: as for ``load_ensemble``.

    Raises:
        SettingsError: the folder is there, the extra is not installed, or the target keeps no such weights.
        ArtifactError: the run is unfinished or damaged.
        DataError: the samples cannot be read.
        ExportError: a network cannot be written as such a graph, or does not answer with such weights.
    """
    if os.path.lexists(folder):
        raise SettingsError(f"{folder} exists: name a folder that is not there yet")
    kind = TARGETS[target](weights)
    run = Run.open_complete(path)
    ensemble = load_ensemble(path, EXACT, trust=trust)
    form = ensemble.preprocessing
    samples = _samples(run, form, source)
    example = samples.read(torch.zeros(2, dtype=torch.int64)) if raw else form.example()
    graphs = graphs_of(ensemble, form if raw else None)
    if weights == "fp16":  # copies: what they are compared with stays as it is
        graphs = {name: copy.deepcopy(graph).half() for name, graph in graphs.items()}
    description = _described(run, ensemble, example, weights, raw=raw)
    description["files"] = {name: f"{name}{kind.suffix}" for name in graphs}
    notes = {"coterie": json.dumps(description)}
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        runners = {}
        for name, graph in graphs.items():
            program = program_of(name, graph, example, any_length=form.shape == (-1,))
            kind.write(program, graph.outputs, notes, made / description["files"][name])
            runners[name] = kind.open(made / description["files"][name])
        parity = _compared(ensemble, samples, runners, (lambda batch: batch) if raw else form)
        text = json.dumps({**description, "parity": asdict(parity)}, indent=2, ensure_ascii=False)
        (made / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        if isinstance(form, TokenPreprocessing):
            (made / TOKENIZER_FILE).write_text(form.tokenizer, encoding="utf-8")
        made.chmod(0o755)  # a temporary folder is its maker's alone
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return parity


def _samples(run: FinishedRun, form: Preprocessing, source: str | None) -> Samples:
    """Test samples, evenly spaced where there are many."""
    data = run.settings.data
    if source is not None:
        size = {"image_size": form.height} if isinstance(form, ImagePreprocessing) and form.height == form.width else {}
        data = DataSettings(**{**data.model_dump(), "source": source, "configuration": None, **size})
    samples = form.check(load_data(data, run.settings.seed, form).test.samples)
    return samples.take(torch.linspace(0, len(samples) - 1, min(MOST_SAMPLES, len(samples))).round().long())


def _described(
    run: FinishedRun, ensemble: SpecialistEnsemble, example: Tensor, weights: WeightsName, *, raw: bool
) -> dict[str, Any]:
    """What a program needs to know that runs the graphs."""
    values = run.manifest.model_dump(mode="json")
    axes: list[str | int] = ["samples", *example.shape[1:]]
    if ensemble.preprocessing.shape == (-1,):
        axes[1] = "length"
    return {
        "format": FORMAT,
        "coterie": coterie.__version__,
        "run": run.path.resolve().name,
        "classes": list(ensemble.labels.names),
        "input": {"name": INPUT, "dtype": str(example.dtype).removeprefix("torch."), "shape": axes},
        "weights": weights,
        "preprocessing": values["data"]["input"],
        "preprocessing_in_graph": raw,
        "clusters": members_of(ensemble.partition),
        "layers": list(ensemble.partition.layer_S),
        "rule": {name: values["gate"][name] for name in RULE},
    }


# Of the manifest's record of the gate: what the rule is, without what it was chosen from.
RULE = (
    "score",
    "threshold",
    "gain",
    "combiner",
    "weights",
    "top",
    "temperature",
    "base_temperature",
    "specialist_temperatures",
)


def _compared(
    ensemble: SpecialistEnsemble,
    samples: Samples,
    runners: Mapping[str, Runner],
    prepare: Callable[[Tensor], Tensor],
) -> Parity:
    expected_NC = ensemble.predict_proba(samples)
    batches = torch.arange(len(samples)).split(ensemble.preprocessing.at_once)
    given_NC = np.concatenate([_answers(ensemble, runners, prepare(samples.read(rows))) for rows in batches])
    lost = int((~np.isfinite(given_NC)).any(axis=1).sum())
    if lost:
        raise ExportError(f"of {len(samples)} test samples, {lost} get probabilities that are NaN or infinite")
    changed = int((given_NC.argmax(axis=1) != expected_NC.argmax(axis=1)).sum())
    return Parity(len(samples), float(np.abs(given_NC - expected_NC).max()), changed)


def _answers(ensemble: SpecialistEnsemble, runners: Mapping[str, Runner], batch: Tensor) -> FloatArray:
    """Probabilities of a batch by the graphs; where the rule is in none of them, by the arrays-only code."""
    if "ensemble" in runners:
        proba_NC: FloatArray = runners["ensemble"](batch)[0]
        return proba_NC
    partition = ensemble.partition
    (base_NC,) = runners["base"](batch)
    question = ensemble.rule.ask(base_NC, partition)
    packed_NM = np.zeros((len(base_NC), len(partition.packed_class_M)), dtype=np.float32)
    for cluster in range(partition.n_clusters):
        if (runner := runners.get(f"specialist-{cluster}")) is not None:
            packed_NM[:, partition.columns(cluster)] = runner(batch)[0]
    return question.combine(packed_NM, question.asked(question.routed_N))
