"""How good is `CoterieClassifier` on texts where no option is set, beside what people use with scikit-learn?

Question: how many of 1,500 test texts are right, and how long do fit and answers take, by the default (a linear network
on the embeddings of a frozen MiniLM), a network with a hidden layer on the same, the n-grams that were the default
before, and a linear support vector machine on TF-IDF of words and pairs of these (scikit-learn)? Embeddings are
computed anew for each fit, as in a first one.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from benchmarks.gains.fine_tuned import subset
from benchmarks.shared import command, markdown_table, percentages, write_result
from coterie import CoterieClassifier

SEEDS = (0, 1)
N_TEST = 1500
DATA = {"HWU64": ("hwu64", 64, (10, 30)), "CLINC150": ("clinc150", 150, (20,))}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "mlp-256 on embeddings": {"backbone": "mlp-256", "settings": {"data": {"text_as": "minilm"}}},
    "n-grams": {"settings": {"data": {"text_as": "ngrams"}}},
}


def main(shared: Path) -> None:
    """Fit all, and write the table.

    Args:
        shared: folder of clinc150 and hwu64, each with its parquet files.
    """
    rows: list[list[str]] = []
    titles = ["data", "texts", *WAYS, "seconds of each", "TF-IDF and LinearSVC"]
    about = f"Right answers, in %, of seeds {' and '.join(map(str, SEEDS))}; the SVM has none."
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, (place, n_classes, numbers) in DATA.items():
            for per_class in numbers:
                made = subset(shared / place, Path(folder) / f"{place}-{per_class}", "intent", n_classes * per_class)
                rows.append([f"{name}, {per_class} a class", *_row(made, Path(folder))])
                write_result(__file__, f"{__doc__}\n{about}\n\n{markdown_table(titles, rows)}")


def _row(place: Path, cache: Path) -> Iterator[str]:
    texts, label_N = _read(place, "train")
    test, truth_N = _read(place, "test")
    some = np.random.default_rng(0).permutation(len(test))[:N_TEST]
    test, truth_N = [test[row] for row in some], truth_N[some]
    yield f"{len(texts):,}"
    seconds = []
    for options in WAYS.values():
        found, started = [], time.perf_counter()
        for seed in SEEDS:
            for file in cache.glob("coterie/sentences/*"):
                file.unlink()
            fitted = CoterieClassifier(random_state=seed, **options).fit(texts, label_N)
            found.append(float(fitted.score(test, truth_N)))
        seconds.append((time.perf_counter() - started) / len(SEEDS))
        yield percentages(found)
    yield ", ".join(f"{each:.0f}" for each in seconds)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    yield percentages([make_pipeline(words, LinearSVC()).fit(texts, label_N).score(test, truth_N)])


def _read(place: Path, split: str) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(place / f"{split}-0.parquet")
    return table["text"].to_pylist(), np.array(table["intent"].to_pylist())


if __name__ == "__main__":
    command(main)
