"""Which learning rate do networks with fresh weights want of AdamW?

Question: `--base.optimizer adamw` without a rate took SGD's, 0.2, and 2 for n-grams. How accurate on validation are the
kinds of networks that coterie has, trained by AdamW at rates from 3e-4 to 3e-2, beside SGD at its default rate?
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gains.fine_tuned import subset
from benchmarks.gains.pairs import FEATURES, features
from benchmarks.shared import base_accuracies, command, markdown_table, percentages, write_result

SEEDS = (0, 1)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def main(shared: Path) -> None:
    """Train all, and write the table.

    Args:
        shared: folder of cifar100 and hwu64, each with its parquet files.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for name, values in _kinds(shared, Path(folder)):
            ways = [{}, *({"optimizer": "adamw", "learning_rate": rate} for rate in RATES)]
            rows.append([name, *(_accuracies(values, way) for way in ways)])
            titles = ["network", "SGD, default", *(f"AdamW, {rate:g}" for rate in RATES)]
            about = f"Top-1 on validation, in %, of seeds {' and '.join(map(str, SEEDS))}."
            write_result(__file__, f"{__doc__}\n{about}\n\n{markdown_table(titles, rows)}")


def _kinds(shared: Path, made: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    few = subset(shared / "cifar100", made / "cifar100", "fine_label", 100 * 100)
    images = {"source": f"parquet:{few}", "label": "fine_label"}
    texts = {"source": f"parquet:{shared / 'hwu64'}", "label": "intent", "text": "text"}
    sentences = {**texts, "text_as": "minilm"}
    yield "ngram-64, HWU64", {"data": texts, "backbone": "ngram-64"}
    yield "linear, MiniLM's sentences, HWU64", {"data": sentences, "backbone": "linear"}
    yield "mlp-256, MiniLM's sentences, HWU64", {"data": sentences, "backbone": "mlp-256"}
    for n_classes, per_class, noise in FEATURES:
        source = {"source": f"features:{features(made, n_classes, per_class, noise)}"}
        yield f"mlp-256, features of {n_classes} classes", {"data": source, "backbone": "mlp-256"}
    small = {"data": images, "backbone": "convnet-16", "base": {"epochs": 5}}
    yield "convnet-16 for 5 epochs, CIFAR-100, 100 images a class", small


def _accuracies(values: dict[str, Any], way: dict[str, Any]) -> str:
    _, found = base_accuracies({**values, "base": {**values.get("base", {}), **way}}, SEEDS, "validation")
    return percentages(found)


if __name__ == "__main__":
    command(main)
