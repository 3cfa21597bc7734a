"""Small good runs to mutate: each in a folder of its own, beside its data, which it names by relative paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import plain

# A target is TARGET/run, TARGET/data and SETTINGS; commands run in TARGET.
RUN, DATA, SETTINGS = "run", "data", "data/settings.yaml"
WORDS = ("apple", "pear", "oak", "elm", "cat", "dog")
CLASSES = 6
MORE = f"{DATA}/more"
MORE_FILES = {"features": "features.npz", "csv": "rows.csv", "parquet": ""}


@dataclass(frozen=True)
class Target:
    """A run to make: what draws its data into a folder, its settings, and what is asked of it.

    Attributes:
        source: ``data.source`` of its settings, also for labelled samples that come later.
        inputs: arguments of ``coterie predict``.
    """

    draw: Callable[[Path], None]
    source: str
    inputs: tuple[str, ...]
    settings: dict[str, Any]
    options: tuple[str, ...] = ()

    @property
    def more(self) -> str:
        """A source of samples of the classes of cluster 0 alone."""
        kind = self.source.partition(":")[0]
        return f"{kind}:{MORE}/{MORE_FILES[kind]}"


def make(name: str, place: Path) -> None:
    """Train the run of a target; called in ``place``, which is empty."""
    from coterie.cli import main

    target = TARGETS[name]
    Path(DATA).mkdir(parents=True)
    target.draw(Path(DATA))
    training = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05}
    values = {
        "base": training,
        "specialist": training,
        "hardware": {"accelerator": "cpu", "threads": 1, "precision": "fp32"},
        **target.settings,
        "data": {"source": target.source, **target.settings.get("data", {})},
    }
    Path(SETTINGS).write_text(plain(values).to_yaml())
    if name == "unfinished":
        _interrupt(place / RUN)
        return
    command = ["fit", "--config", SETTINGS, "--out", RUN, "--workers", "1", *target.options]
    if main(command):
        raise SystemExit(f"cannot make the target {name}")
    if name == "compared" and main(["compare", RUN, "--superclasses", f"{DATA}/groups.txt", "--workers", "1"]):
        raise SystemExit(f"cannot compare the target {name}")
    _draw_more(target)


def _draw_more(target: Target) -> None:
    """What ``refit`` takes: samples of the classes of cluster 0."""
    manifest = json.loads((Path(RUN) / "manifest.json").read_bytes())
    names = [manifest["data"]["classes"][c] for c in manifest["partition"]["members"][0]]
    Path(MORE).mkdir()
    kind, _, place = target.source.partition(":")
    if kind == "features":
        with np.load(place) as arrays:
            kept_N = np.isin(arrays["labels"].astype(str), names)
            np.savez(f"{MORE}/features.npz", features=arrays["features"][kept_N], labels=arrays["labels"][kept_N])
    elif kind == "csv":
        head, *rows = Path(place).read_text().splitlines()
        kept = [row for row in rows if row.rpartition(",")[2] in names]
        Path(MORE, "rows.csv").write_text("\n".join([head, *kept]) + "\n")
    else:
        import pyarrow.parquet as pq

        pq.write_table(
            pq.read_table(f"{place}/train.parquet", filters=[("label", "in", names)]), f"{MORE}/train.parquet"
        )


def _interrupt(run: Path) -> None:
    """A run that was interrupted while its first specialist trained, with the state of that training."""
    from coterie.config import EngineSettings, FitSettings
    from coterie.pipeline.fit import fit
    from coterie.progress import Progress

    class Interrupt(Progress):
        specialist, steps = False, 0

        def stage(self, title: str, steps: int) -> None:
            self.specialist = title.startswith("specialist")
            self.steps = 0

        def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: object = None) -> None:
            self.steps += steps
            if self.specialist and self.steps > 4:  # after its first epoch, when a state was saved
                raise KeyboardInterrupt

    try:
        fit(FitSettings.from_yaml(Path(SETTINGS)), run, progress=Interrupt(), engine=EngineSettings(workers=1))
    except KeyboardInterrupt:
        if list(run.glob("checkpoint/**/*.safetensors")):
            return
    raise SystemExit("the target `unfinished` is finished")


def _images(data: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    patterns = rng.integers(40, 200, (CLASSES, 12, 12))
    for split, n in (("train", 16), ("validation", 6), ("test", 6)):
        labels = np.arange(n * CLASSES) % CLASSES
        pixels = (patterns[labels] + rng.normal(0, 25, (len(labels), 12, 12))).clip(0, 255).astype(np.uint8)
        images = [{"bytes": png(image), "path": None} for image in pixels]
        names = [WORDS[label] for label in labels]
        pq.write_table(pa.table({"image": images, "label": names}), data / f"{split}.parquet")
    for k in range(2):
        (data / f"{k}.png").write_bytes(png(patterns[k].astype(np.uint8)))


def png(pixels_HW: np.ndarray) -> bytes:
    """A grey image as a PNG."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels_HW).save(stream, "png")
    return stream.getvalue()


def _texts(data: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for k in range(40 * CLASSES):
        said = WORDS[k % CLASSES] if rng.random() < 0.8 else WORDS[int(rng.integers(CLASSES))]
        lines.append(f"{k % 10} {said} is {int(rng.integers(10))},{WORDS[k % CLASSES]}")
    (data / "texts.csv").write_text("\n".join(lines) + "\n")
    (data / "new.txt").write_text("1 apple is 2\n3 oak is 4\n")


def _model(data: Path) -> None:
    """Texts, and a BERT of random weights with its tokenizer, as fine-tuning leaves them."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    _texts(data)
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
    vocabulary = {word: k for k, word in enumerate((*special, *WORDS, "is", *map(str, range(10))))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    frame = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=12, **named)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=len(vocabulary),
        max_position_embeddings=12,
        id2label=dict(enumerate(sorted(WORDS))),
        label2id={name: k for k, name in enumerate(sorted(WORDS))},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(data / "model")
    fast.save_pretrained(data / "model")


def _vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(40 * CLASSES) % CLASSES
    centres = rng.normal(size=(CLASSES, 5))
    return (centres[labels] + rng.normal(size=(len(labels), 5))).astype(np.float32), labels


def _features(data: Path) -> None:
    vectors, labels = _vectors()
    np.savez(data / "features.npz", features=vectors, labels=labels)
    np.savez(data / "new.npz", features=vectors[:3])
    (data / "groups.txt").write_text("".join(f"group {k % 2}\n" for k in range(CLASSES)))


def _table(data: Path) -> None:
    vectors, labels = _vectors()
    rows = [(v[0], v[1], "ab"[int(v[2] > 0)], WORDS[k]) for v, k in zip(vectors, labels, strict=True)]
    lines = ["first,second,letter,label", *(f"{a:.4f},{b:.4f},{letter},{label}" for a, b, letter, label in rows)]
    (data / "table.csv").write_text("\n".join(lines) + "\n")
    said = [{"first": 1.5, "second": k / 2, "letter": "ab"[k % 2], "label": WORDS[k]} for k in range(CLASSES)]
    (data / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))


_THREE = {"partition": {"clusters": [3]}}
_IMAGE_INPUTS = (f"{DATA}/0.png", f"{DATA}/1.png")
_FEATURES = (_features, f"features:{DATA}/features.npz", (f"{DATA}/new.npz",), {"backbone": "mlp-8", **_THREE})
_TAILS = {"partition": {"clusters": [3, 2], "together": True}}
TARGETS = {
    "features": Target(*_FEATURES),
    "whole": Target(_images, f"parquet:{DATA}", _IMAGE_INPUTS, {"backbone": "convnet-8", **_THREE}),
    "tails": Target(
        _images,
        f"parquet:{DATA}",
        _IMAGE_INPUTS,
        {"backbone": "convnet-8", **_TAILS},
        ("--specialist.trainable", "stage3", "--specialist.bits", "2.4"),
    ),
    "ngrams": Target(
        _texts, f"csv:{DATA}/texts.csv", (f"{DATA}/new.txt", "5 elm is 1"), {"backbone": "ngram-8", **_THREE}
    ),
    "tokens": Target(
        _model,
        f"csv:{DATA}/texts.csv",
        (f"{DATA}/new.txt", "5 elm is 1"),
        {"backbone": f"transformers:{DATA}/model", **_THREE},
        ("--specialist.trainable", "lora-2"),
    ),
    "table": Target(
        _table,
        f"csv:{DATA}/table.csv",
        (f"{DATA}/new.jsonl",),
        {"backbone": "table-mlp-8", **_THREE, "data": {"label": "label"}},
    ),
    "compared": Target(*_FEATURES),
    "unfinished": Target(*_FEATURES),
}
