"""CLINC150, 150 intents of short texts: the base, the gain that is forecast, the gain that is reached; and texts of no
intent.

Question: with hashed n-grams (no weights from elsewhere) and with MiniLM's sentence embeddings, a base each, what gain
is forecast from validation logits before a specialist is trained, and what does the ensemble reach? And do gate and
ensemble notice the 1,000 texts that are of none of the 150 intents (AUROC of the gate's score, and of the largest
probability, against the test texts)?
"""

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

import coterie
import record
from coterie.artifact import partition_of, read_outputs, read_reports
from coterie.config import FitSettings
from coterie.forecast import gain_forecast
from coterie.run_folder import Run

SEEDS = (0, 1, 2)
EXAMPLE = Path(__file__).parents[1] / "examples" / "clinc150.yaml"
WAYS = {
    "hashed n-grams, ngram-64": {},
    "MiniLM sentence embeddings, linear": {
        "data": {"text_as": "minilm"},
        "backbone": "linear",
        "base": {"learning_rate": 0.005},
        "specialist": {"learning_rate": 0.001},
    },
    "MiniLM sentence embeddings, mlp-256": {
        "data": {"text_as": "minilm"},
        "backbone": "mlp-256",
        "base": {"learning_rate": 0.005},
        "specialist": {"learning_rate": 0.001},
    },
}


@dataclass(frozen=True)
class Result:
    """One run's figures, as shares of 1; ``aurocs``: of the gate's score, and of 1 less the largest probability."""

    base: float
    forecast: float
    ensemble: float
    low: float
    high: float
    router: float
    routed: float
    aurocs: tuple[float, float]
    routed_outside: float


def main(folder: str) -> None:
    """Train each way with each seed, and write what they gave."""
    texts = pq.read_table(Path(folder) / "oos_test.parquet")["text"].to_pylist()
    lines = [
        "| texts as | seed | base | forecast gain | ensemble | gain reached (95 % interval) | routed | router |",
        "|---|---|---|---|---|---|---|---|",
    ]
    outside = [
        "| texts as | AUROC of the gate's score | AUROC of 1 - largest probability | routed, of no intent | routed, test |",
        "|---|---|---|---|---|",
    ]
    for way, changes in WAYS.items():
        results = [measure(folder, changes, seed, texts) for seed in SEEDS]
        for seed, r in zip(SEEDS, results, strict=True):
            lines.append(
                f"| {way} | {seed} | {r.base:.2%} | {100 * r.forecast:+.2f} | {r.ensemble:.2%} | "
                f"{100 * (r.ensemble - r.base):+.2f} ({100 * r.low:+.2f} to {100 * r.high:+.2f}) | {r.routed:.1%} | "
                f"{r.router:.2%} |"
            )
        gains = [100 * (r.ensemble - r.base) for r in results]
        lines.append(
            f"| | mean | {mean(r.base for r in results):.2%} | {100 * mean(r.forecast for r in results):+.2f} | "
            f"{mean(r.ensemble for r in results):.2%} | {mean(gains):+.2f} (sd over seeds {statistics.stdev(gains):.2f}) | "
            f"{mean(r.routed for r in results):.1%} | {mean(r.router for r in results):.2%} |"
        )
        aurocs = [f"{mean(r.aurocs[k] for r in results):.3f}" for k in (0, 1)]
        outside.append(
            f"| {way} | {' | '.join(aurocs)} | {mean(r.routed_outside for r in results):.1%} | "
            f"{mean(r.routed for r in results):.1%} |"
        )
        print("\n".join(lines[-4:]), flush=True)
    record.write(
        __file__,
        "S = 10, the rule that is chosen on validation; 15,000 training, 3,000 validation and 4,500 test texts. Gains in "
        "points. The forecast is `coterie.forecast.gain_forecast` on validation, of the paper's rule.\n\n"
        + "\n".join(lines)
        + f"\n\n{len(texts):,} texts of no intent against the test texts, means over seeds: the chance that a text of no "
        "intent has the higher score.\n\n" + "\n".join(outside),
    )


def measure(folder: str, changes: dict[str, object], seed: int, texts: list[str]) -> Result:
    """Train one ensemble, and judge it."""
    values = FitSettings.from_yaml(EXAMPLE).to_values()
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    values["data"]["source"] = f"parquet:{folder}"
    settings = FitSettings.from_values({**values, "seed": seed, "hardware": {"threads": 1}})
    out = Path(folder_of_runs()) / f"{settings.backbone}-{settings.data.text_as}-{seed}"
    ensemble = coterie.fit(settings, out)
    run = Run.open_complete(out)
    report, validation = read_reports(run)["test"], read_outputs(run, "validation")
    base_proba_NC = np.exp(validation.base_NC - validation.base_NC.max(axis=1, keepdims=True))
    base_proba_NC /= base_proba_NC.sum(axis=1, keepdims=True)
    test = coterie.data.load(settings.data, seed).test.samples
    inside, outside = ensemble.decide(test), ensemble.decide(texts)
    is_outside = np.repeat([0, 1], [len(test), len(texts)])
    scores = np.concatenate([inside.score_N, outside.score_N])
    doubts = 1 - np.concatenate([inside.proba_NC.max(axis=1), outside.proba_NC.max(axis=1)])
    return Result(
        base=report.base_top1,
        forecast=gain_forecast(base_proba_NC, validation.label_N, partition_of(run.manifest)),
        ensemble=report.ensemble_top1,
        low=report.gain_low,
        high=report.gain_high,
        router=report.router_accuracy,
        routed=report.routed_fraction,
        aurocs=(float(roc_auc_score(is_outside, scores)), float(roc_auc_score(is_outside, doubts))),
        routed_outside=float(outside.routed_N.mean()),
    )


def mean(values: object) -> float:
    """Of any numbers."""
    return statistics.mean(values)  # type: ignore[arg-type]


def folder_of_runs() -> str:
    """Where runs are kept, and gone on with."""
    return sys.argv[2]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/clinc150.py FOLDER RUNS")
    main(sys.argv[1])
