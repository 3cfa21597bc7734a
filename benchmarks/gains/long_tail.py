"""A long-tailed CIFAR-100: whom do specialists help, classes with many or with few training images?

Question: with training images thinned exponentially (imbalance 100: Cao et al. 2019, arXiv 1906.07413), what do base
and ensemble reach on the balanced test images, over all classes, and for those with many (over 100), medium (20 to
100) and few (under 20) training images; and does class-balanced sampling change it?
"""

from pathlib import Path
from typing import Literal

import coterie
from benchmarks.shared import command, plain, write_result
from coterie.run.folder import Run
from coterie.run.reporting import read_reports

Sampling = Literal["natural", "balanced"]


def main(source: str, out: Path, samplings: tuple[Sampling, ...] = ("natural", "balanced")) -> None:
    """Train with each way of sampling, and write what they gave.

    Args:
        source: where CIFAR-100 is, as `coterie fit` takes it.
        out: folder of the runs; an unfinished one goes on.
        samplings: ways to draw training samples.
    """
    lines = [
        "| sampling | classes | training images each | test images | base | ensemble | gain |",
        "|---|---|---|---|---|---|---|",
    ]
    more = []
    for sampling in samplings:
        run = fit(source, out / sampling, sampling)
        report = read_reports(run)["test"]
        balance = report.balance
        assert balance is not None
        rows = [(f"{row.name}: {row.n_classes}", f"{row.fewest} to {row.most}", row) for row in balance.groups]
        for name, counts, row in rows:
            gain = row.ensemble_top1 - row.base_top1
            lines.append(
                f"| {sampling} | {name} | {counts} | {row.n_samples:,} | {row.base_top1:.2%} | "
                f"{row.ensemble_top1:.2%} | {100 * gain:+.2f} |"
            )
        lines.append(
            f"| {sampling} | all: {len(run.manifest.train_counts)} | {sum(run.manifest.train_counts):,} in all | "
            f"{report.n_samples:,} | {report.base_top1:.2%} | {report.ensemble_top1:.2%} | {100 * report.gain:+.2f} "
            f"(95 % interval {100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f}) |"
        )
        more.append(
            f"{sampling}: macro-F1 {balance.base_macro_f1:.2%} (base), {balance.ensemble_macro_f1:.2%} (ensemble); "
            f"routed {report.routed_fraction:.1%}, {report.mean_passes:.2f} passes; router accuracy "
            f"{report.router_accuracy:.2%}; in the true cluster: restricted base {report.oracle_restricted:.2%}, "
            f"specialists {report.oracle_specialist:.2%}."
        )
    write_result(
        __file__,
        "convnet-32, 24 epochs of the base, 12 of each of 9 specialists, the paper's rule, seed 0; imbalance 100. "
        "Validation images keep the balance of the original, so the gate's threshold is chosen for it.\n\n"
        + "\n".join(lines)
        + "\n\n"
        + "\n".join(f"- {line}" for line in more),
    )


def fit(source: str, out: Path, sampling: str) -> Run:
    """One run, kept in ``out``."""
    settings = plain(
        {
            "data": {"source": source, "label": "fine_label", "imbalance": 100, "sampling": sampling, "cutout": 8},
            "backbone": "convnet-32",
            "base": {"epochs": 24, "weight_decay": 0.001},
            "specialist": {"epochs": 12, "weight_decay": 0.001},
            "partition": {"clusters": [9]},
            "gate": {"score": "entropy", "combiner": "hard", "top": 1},
            "hardware": {"threads": 1},
        }
    )
    coterie.fit(settings, out)
    return Run.open_complete(out)


if __name__ == "__main__":
    command(main)
