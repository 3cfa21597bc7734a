"""Draw the README's picture from a finished run: python scripts/readme_figure.py RUN docs/cifar100.svg."""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from coterie.labels import LabelSpace
from coterie.measures.report import Report
from coterie.run.folder import Run
from coterie.run.reporting import read_reports
from coterie.run.values import labels_of

# Okabe and Ito's colours, told apart by the colour-blind; marks differ too.
BASE, RESTRICTED, SPECIALIST, INK = "#999999", "#56B4E9", "#D55E00", "#222222"


def draw_clusters(axes: Axes, report: Report, labels: LabelSpace) -> None:
    """Accuracy inside each true cluster: base, restricted base, specialist."""
    rows = sorted(report.clusters, key=lambda row: row.specialist_top1)
    for y, row in enumerate(rows):
        values = (row.base_top1, row.restricted_top1, row.specialist_top1)
        axes.plot([100 * min(values), 100 * max(values)], [y, y], color="#dddddd", linewidth=3, zorder=1)
        for value, colour, mark in zip(values, (BASE, RESTRICTED, SPECIALIST), ("o", "s", "D"), strict=True):
            axes.scatter(100 * value, y, color=colour, marker=mark, s=36, zorder=2)
    names = [", ".join(labels.of(row.classes[:3])).replace("_", " ") + f" ... ({len(row.classes)})" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_xlabel("top-1 accuracy within the true cluster, %")
    for name, colour, mark in (
        ("base", BASE, "o"),
        ("base restricted to the cluster", RESTRICTED, "s"),
        ("specialist", SPECIALIST, "D"),
    ):
        axes.scatter([], [], color=colour, marker=mark, s=36, label=name)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def draw_curve(axes: Axes, report: Report) -> None:
    """Accuracy against routed fraction, with the point that validation chose."""
    axes.plot([100 * x for x in report.curve.routed], [100 * y for y in report.curve.accuracy], color=SPECIALIST)
    axes.axhline(100 * report.base_top1, color=BASE, linestyle="--", linewidth=1)
    axes.annotate("base", (100, 100 * report.base_top1), ha="right", va="bottom", fontsize=8, color=INK)
    axes.scatter(100 * report.routed_fraction, 100 * report.ensemble_top1, color=INK, marker="D", s=40, zorder=3)
    axes.annotate(
        f"{100 * report.ensemble_top1:.2f} % ({100 * report.gain:+.2f})\nchosen on validation",
        (100 * report.routed_fraction, 100 * report.ensemble_top1),
        xytext=(0.97, 0.3),
        textcoords="axes fraction",
        ha="right",
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "shrinkB": 4},
        fontsize=8,
        color=INK,
    )
    axes.set_xlabel("test images routed to a specialist, %")
    axes.set_ylabel("top-1 accuracy, %")


def main(run: str, out: str) -> None:
    """Draw both panels."""
    folder = Run.open_complete(Path(run))
    report, labels = read_reports(folder)["test"], labels_of(folder.manifest)
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "coterie", "font.family": "sans-serif"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), width_ratios=(1.35, 1), layout="constrained")
    draw_clusters(left, report, labels)
    draw_curve(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/readme_figure.py RUN OUT.svg")
    main(*sys.argv[1:])
