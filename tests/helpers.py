"""What tests of several wings share: small data, short settings, and looks into run folders."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from coterie.config import FitSettings
from coterie.data.splits import Split, Splits
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.labels import LabelSpace
from coterie.progress import Progress

ROOT = Path(__file__).parents[1]
# Data of the machines that the project is developed on; tests that want it skip where it is absent.
SHARED_DATA = ROOT.parent / "shared" / "data"
FIXTURES = ROOT / "tests" / "fixtures"


def image_form(channels: int, side: int = 32) -> ImagePreprocessing:
    """Of square images whose values are spread around 100."""
    return ImagePreprocessing(side, side, channels, (100.0,) * channels, (50.0,) * channels)


def hears_ctrl_c() -> None:
    """For ``preexec_fn``: a shell starts what runs in the background deaf to SIGINT, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_split(n_per_class: int, n_classes: int, seed: int) -> Split:
    """Noisy 12 x 12 grey patterns; classes come in pairs that differ in one corner only."""
    patterns = np.random.default_rng(7).integers(40, 200, size=((n_classes + 1) // 2, 12, 12))
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), n_per_class)
    rng.shuffle(labels)
    pixels = patterns[labels // 2] + rng.normal(0, 30, size=(len(labels), 12, 12))
    pixels[labels % 2 == 1, :4, :4] += 45
    pixels_NHWC = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).unsqueeze(3)
    return Split(MemorySamples(pixels_NHWC), torch.from_numpy(labels))


def make_splits(n_classes: int = 8, n_per_class: int = 24) -> Splits:
    train = make_split(n_per_class, n_classes, seed=0)
    return Splits(
        train,
        make_split(8, n_classes, seed=1),
        make_split(8, n_classes, seed=2),
        LabelSpace(tuple(f"class {k}" for k in range(n_classes))),
        ImagePreprocessing.measure(train.samples),
        "Patterns made for the tests.",
        flip=False,
    )


def make_settings() -> FitSettings:
    """A run of seconds."""
    training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05}
    return FitSettings.from_values(
        {
            "backbone": "convnet-8",
            "base": {**training, "epochs": 4},
            "specialist": training,
            "partition": {"clusters": [3]},
            "data": {"crop_padding": 1},
            "hardware": {"accelerator": "cpu", "precision": "fp32", "threads": 1},
        }
    ).all_given()


class Notes(Progress):
    """Keeps what it is told in notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def changed(settings: FitSettings, **values: object) -> FitSettings:
    return FitSettings.from_values({**settings.to_values(), **values})


def weights(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*.safetensors"))}


def rewrite(run: Path, name: str, content: bytes) -> None:
    """Replace a file of a run, and its size and checksum in the manifest: as somebody does who means it."""
    (run / name).write_bytes(content)
    values = json.loads((run / "manifest.json").read_text())
    values["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(values))


def rewrite_json(run: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Replace the values of a JSON file of a run by what ``change`` makes of them."""
    rewrite(run, name, json.dumps(change(json.loads((run / name).read_text()))).encode())


def rewrite_tensors(run: Path, name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Replace the tensors of a file of a run by what ``change`` makes of them."""
    tensors = change(safetensors.torch.load((run / name).read_bytes()))
    rewrite(run, name, safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()}))


def rewrite_manifest(run: Path, **records: Any) -> None:
    """Replace records of a run's manifest."""
    values = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**values, **records}))


TINY = """
data: {train_per_class: 4}
backbone: convnet-8
base: {epochs: 2, batch_size: 64, learning_rate: 0.05}
specialist: {epochs: 1, batch_size: 64, trainable: all, bits: 32}
partition: {clusters: [3]}
hardware: {accelerator: cpu, threads: 1}
"""
