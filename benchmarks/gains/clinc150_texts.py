"""CLINC150, 150 intents of short texts: the base, the gain that is forecast, the gain that is reached; and texts of no
intent.

Question: with hashed n-grams (no weights from elsewhere) and with MiniLM's sentence embeddings, a base each, what gain
is forecast from validation logits before a specialist is trained, and what does the ensemble reach? And do gate and
ensemble notice the 1,000 texts that are of none of the 150 intents (AUROC of the gate's score, and of the largest
probability, against the test texts)?
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

import coterie
from benchmarks.shared import EXAMPLES, both_outputs, command, plain, shown, write_result
from coterie.config import FitSettings
from coterie.data import load
from coterie.routing.evaluation import evaluate
from coterie.routing.forecast import BasePredictions, Outlook, forecast
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import Run
from coterie.run.reporting import read_reports
from coterie.run.values import partition_of

SEEDS = (0, 1, 2)
SENTENCES = {"data": {"text_as": "minilm"}, "base": {"learning_rate": 0.005}, "specialist": {"learning_rate": 0.001}}
WAYS: dict[str, dict[str, Any]] = {
    "n-grams, ngram-64": {},
    "MiniLM, linear": {**SENTENCES, "backbone": "linear"},
}


@dataclass(frozen=True)
class Result:
    """One run's figures, as shares of 1; ``paper``: by the paper's rule, with its interval; ``aurocs``: of the
    gate's score, and of 1 less the ensemble's largest probability; ``routed``: of the test texts, and of those of no
    intent.
    """

    base: float
    forecast: float
    paper: float
    low: float
    high: float
    tuned: float
    router: float
    aurocs: tuple[float, float]
    routed: tuple[float, float]


def main(clinc150: Path, runs: Path) -> None:
    """Train each way with each seed, and write what they gave.

    Args:
        clinc150: folder with the parquet files of CLINC150.
        runs: folder of the runs; finished ones are read.
    """
    texts = pq.read_table(clinc150 / "oos_test.parquet")["text"].to_pylist()
    lines = [
        "| texts as | seed | base | forecast | ensemble | gain (95 % interval) | tuned rule | routed | router |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    outside = [
        "| texts as | AUROC, entropy | AUROC, largest probability | routed, of no intent | routed, test |",
        "|---|---|---|---|---|",
    ]
    for way, changes in WAYS.items():
        results = [measure(clinc150, runs, changes, seed, texts) for seed in SEEDS]
        for seed, r in zip(SEEDS, results, strict=True):
            lines.append(
                f"| {way} | {seed} | {r.base:.2%} | {100 * r.forecast:+.2f} | {r.paper:.2%} | "
                f"{shown(100 * (r.paper - r.base), 100 * r.low, 100 * r.high)} | "
                f"{100 * (r.tuned - r.base):+.2f} | {r.routed[0]:.1%} | {r.router:.2%} |"
            )
        mean = {name: np.mean([getattr(r, name) for r in results], axis=0) for name in vars(results[0])}
        spread = np.std([100 * (r.paper - r.base) for r in results], ddof=1)
        lines.append(
            f"| | mean | {mean['base']:.2%} | {100 * mean['forecast']:+.2f} | {mean['paper']:.2%} | "
            f"{100 * (mean['paper'] - mean['base']):+.2f} (sd over seeds {spread:.2f}) | "
            f"{100 * (mean['tuned'] - mean['base']):+.2f} | {mean['routed'][0]:.1%} | {mean['router']:.2%} |"
        )
        outside.append(
            f"| {way} | {mean['aurocs'][0]:.3f} | {mean['aurocs'][1]:.3f} | {mean['routed'][1]:.1%} | "
            f"{mean['routed'][0]:.1%} |"
        )
        print("\n".join([*lines[-4:], outside[-1]]), flush=True)
    write_result(
        __file__,
        "15,000 training, 3,000 validation and 4,500 test texts, S = 10; gains in points. Ensemble and gain: the "
        "paper's rule, its threshold chosen on validation. Forecast: by `coterie headroom` on validation, "
        "of that rule. Tuned rule: gain of the one that `coterie tune` chooses on validation.\n\n"
        + "\n".join(lines)
        + f"\n\n{len(texts):,} texts of no intent against the test texts, means over seeds. AUROC: the chance that a "
        "text of no intent has the higher score, of the gate (the base's entropy), or of 1 less the ensemble's largest "
        "probability.\n\n" + "\n".join(outside),
    )


def measure(folder: Path, runs: Path, changes: dict[str, Any], seed: int, texts: list[str]) -> Result:
    """Train one ensemble, or go on with it, and judge it."""
    values = FitSettings.from_yaml(EXAMPLES / "clinc150.yaml").to_values()
    for name, value in changes.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    values["data"]["source"] = f"parquet:{folder}"
    paper = {"score": "entropy", "combiner": "hard", "top": 1}
    settings = plain({**values, "seed": seed, "gate": paper, "hardware": {"threads": 1}})
    out = runs / f"{settings.backbone}-{settings.data.text_as}-{seed}"
    ensemble = coterie.fit(settings, out)
    run = Run.open_complete(out)
    report, partition = read_reports(run)["test"], partition_of(run.manifest)
    validation, test = both_outputs(run)
    answers = BasePredictions(validation.base_NC, validation.label_N)
    tuned = evaluate(test, partition, tune(validation, partition, TuningRequest(), seed).rule)
    inside, outside = ensemble.decide(load(settings.data, seed).test.samples), ensemble.decide(texts)
    is_outside_N = np.repeat([0, 1], [len(inside.score_N), len(texts)])
    scores = [np.concatenate([inside.score_N, outside.score_N])]
    scores.append(1 - np.concatenate([inside.proba_NC.max(axis=1), outside.proba_NC.max(axis=1)]))
    return Result(
        base=report.base_top1,
        forecast=forecast(answers, Outlook.of(answers, partition)).gain,
        paper=report.ensemble_top1,
        low=report.gain_low,
        high=report.gain_high,
        tuned=tuned.ensemble_top1,
        router=report.router_accuracy,
        aurocs=(roc_auc_score(is_outside_N, scores[0]), roc_auc_score(is_outside_N, scores[1])),
        routed=(float(inside.routed_N.mean()), float(outside.routed_N.mean())),
    )


if __name__ == "__main__":
    command(main)
