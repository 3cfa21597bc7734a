"""Which learning rate do small networks on features, embeddings and tables want, and are they then as good as what
people use for these?

Question: how accurate on test are `linear`, `mlp-256` and `table-mlp-128` after 25 epochs of SGD at a learning rate of
0.2, which suits convolutional networks, and at 0.05, beside logistic regression (scikit-learn, its cost C as it is by
default) on the same standardised features? Sentences are vectors of a frozen MiniLM; the tables are the features as
columns of a csv file. Seeds 0 and 1 were looked at, on validation, before 0.05 was chosen of 0.005, 0.02, 0.05 and 0.2.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.gains.fine_tuned import subset
from benchmarks.gains.pairs import FEATURES, features
from benchmarks.shared import base_accuracies, command, markdown_table, percentages, write_result
from coterie.arrays import FloatArray
from coterie.data.splits import Split, Splits

SEEDS = (2, 3)
RATES = (0.2, 0.05)


def main(shared: Path) -> None:
    """Train all, and write the table.

    Args:
        shared: folder of clinc150 and hwu64, each with its parquet files.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, values in _networks(shared, Path(folder)):
            ways = [base_accuracies({**values, "base": {"learning_rate": rate}}, SEEDS, "test") for rate in RATES]
            splits, _ = ways[0]
            cells = [percentages(accuracies) for _, accuracies in ways]
            rows.append([name, f"{len(splits.train):,}", *cells, _logistic(splits)])
            titles = ["network", "training samples", *(f"at {rate:g}" for rate in RATES), "logistic regression"]
            about = f"Top-1 on test, in %, of seeds {' and '.join(map(str, SEEDS))}."
            write_result(__file__, f"{__doc__}\n{about}\n\n{markdown_table(titles, rows)}")


def _networks(shared: Path, made: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for n_classes, per_class, noise in FEATURES:
        file = features(made, n_classes, per_class, noise)
        yield (
            f"mlp-256, features of {n_classes} classes",
            {"data": {"source": f"features:{file}"}, "backbone": "mlp-256"},
        )
        table = {"data": {"source": f"csv:{_table(file)}", "label": "label"}, "backbone": "table-mlp-128"}
        yield f"table-mlp-128, the same as a table of {n_classes} classes", table
    few = subset(shared / "clinc150", made / "clinc150", "intent", 150 * 20)
    for name, place in (("HWU64", shared / "hwu64"), ("CLINC150, 20 texts a class", few)):
        data = {"source": f"parquet:{place}", "label": "intent", "text": "text", "text_as": "minilm"}
        for backbone in ("mlp-256", "linear"):
            yield f"{backbone}, sentences of {name}", {"data": data, "backbone": backbone}


def _table(file: Path) -> Path:
    """The arrays of a file as a csv file."""
    with np.load(file) as arrays:
        feature_NF, label_N = arrays["features"], arrays["labels"]
    frame = pd.DataFrame(feature_NF, columns=[f"x{k}" for k in range(feature_NF.shape[1])]).assign(label=label_N)
    frame.to_csv(file.with_suffix(".csv"), index=False)
    return file.with_suffix(".csv")


def _logistic(splits: Splits) -> str:
    train, test = splits.train, splits.test
    machine = LogisticRegression(max_iter=1000).fit(_inputs(splits, train), train.labels_N)
    return percentages([machine.score(_inputs(splits, test), test.labels_N)])


def _inputs(splits: Splits, split: Split) -> FloatArray:
    return splits.preprocessing(split.samples.read(torch.arange(len(split)))).numpy()


if __name__ == "__main__":
    command(main)
