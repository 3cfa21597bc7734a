"""A finished run to a folder of files that other programs run, checked against the run on real samples."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

import coterie
from coterie.config import DataSettings, HardwareSettings
from coterie.data import load as load_data
from coterie.errors import SettingsError
from coterie.export.graph_files import GraphFiles
from coterie.export.parity import ExportedFiles, Parity
from coterie.export.pretrained import PretrainedFolder
from coterie.export.targets import GRAPH_TARGETS, TargetName, WeightsName
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble

DESCRIPTION = "export.json"
# Of the layout of the description.
FORMAT = 1
MOST_SAMPLES = 2000
EXACT = HardwareSettings(accelerator="cpu", precision="fp32")


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
    """Write a run's networks as files for other programs, with a description beside them.

    As graphs, for any number of samples: where the specialists share the base's trunk, it is one graph with base, tails
    and rule; else one graph for each network, and the rule stands in the description. For transformers, a folder that
    its pipelines load, of a run that answers by one network of that library.

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
        SettingsError: the folder is there, the extra is not installed, or the target takes no such option.
        ArtifactError: the run is unfinished or damaged.
        DataError: the samples cannot be read.
        ExportError: a network cannot be written so, or does not answer with such weights.
    """
    if os.path.lexists(folder):
        raise SettingsError(f"{folder} exists: name a folder that is not there yet")
    files: ExportedFiles
    if target == "transformers":
        files = PretrainedFolder(weights, raw=raw)
    else:
        files = GraphFiles(GRAPH_TARGETS[target](weights), weights, raw=raw)
    run = Run.open_complete(path)
    ensemble = load_ensemble(path, EXACT, trust=trust)
    files.take(run, ensemble)
    samples = _samples(run, ensemble.preprocessing, source)
    head = {
        "format": FORMAT,
        "coterie": coterie.__version__,
        "run": run.path.resolve().name,
        "classes": list(ensemble.labels.names),
        "weights": weights,
    }
    with _appearing(folder) as made:
        description = files.write(made, samples, head)
        parity = Parity.of(ensemble.predict_proba(samples), files.answers(samples))
        text = json.dumps({**description, "parity": asdict(parity)}, indent=2, ensure_ascii=False)
        (made / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    return parity


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder that has its name once all is written."""
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield made
        made.chmod(0o755)  # a temporary folder is its maker's alone
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _samples(run: FinishedRun, form: Preprocessing, source: str | None) -> Samples:
    """Test samples, evenly spaced where there are many."""
    data = run.settings.data
    if source is not None:
        size = {"image_size": form.height} if isinstance(form, ImagePreprocessing) and form.height == form.width else {}
        data = DataSettings(**{**data.model_dump(), "source": source, "configuration": None, **size})
    samples = form.check(load_data(data, run.settings.seed, form, run.manifest.data.columns).test.samples)
    return samples.take(torch.linspace(0, len(samples) - 1, min(MOST_SAMPLES, len(samples))).round().long())
