"""Does the recipe that `coterie fit` finds by itself gain what the best of a grid made by hand gains?

Question: on each pair of a base and data, what do specialists gain on test by the settings that no option was given
for, and by each recipe of a grid, at the same budget (half of the base's training), storage (twice the base's) and
passes (1.5)? L is the base's peak learning rate; a tail is the end of the network that takes at most half of its
operations, where there is one. The best of a grid is chosen on test: by chance it is above what it would gain again.
Pairs marked "aside" took no part in any choice. All specialists are trained, whatever their pilot says; where the
recipe found has several of them, and a pilot with it, its forecast stands beside. Errors on validation are open to
clusters where the likeliest holds the true class. What was measured is kept beside the result, since runs are gone with
machines; a base that was trained again, elsewhere, need not be the same to the bit.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.gains.fine_tuned import spectral
from benchmarks.gains.pairs import Pair, figures_of, in_points, merged, pairs, run_place
from benchmarks.shared import base_logits, command, keep, kept, markdown_table, measured_on, write_result
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings
from coterie.errors import SettingsError
from coterie.pipeline import pilot
from coterie.pipeline.fit import fit, fit_base
from coterie.pipeline.prepare import base_of_run, prepare
from coterie.pipeline.recipe import CLUSTERS
from coterie.routing.forecast import BasePredictions
from coterie.routing.pilot import open_share
from coterie.run.folder import Run

AUTO = "auto"
# Points; of smaller gains a share means nothing.
WORTH = 0.5
# Recipes, the one found by itself included.
FEWEST = 2
# Of a network without a tail, a whole grid.
WHOLE = 7
HEAD = (
    "pair",
    "base, %",
    "errors open to nine clusters",
    "auto",
    "gain",
    "passes",
    "training",
    "storage",
    "of so many recipes",
    "the best",
    "gain",
    "share",
    "worst",
    "forecast",
)


FILE = Path(__file__).with_suffix(".jsonl")
# A pair, and what came of each recipe.
Row = tuple[Pair, dict[str, dict[str, Any]]]


def main(
    shared: Path,
    runs: Path = Path("runs/recipes"),
    only: tuple[str, ...] = (),
    of: tuple[str, ...] = (),
    train: bool = True,
) -> None:
    """Train what is missing, and write the table of all that was ever measured.

    Args:
        shared: folder of cifar100, clinc150 and hwu64, each with its parquet files.
        runs: folder of the bases.
        only: pairs whose names hold one of these; default: all.
        of: recipes by name; default: all.
        train: train what is missing.
    """
    pilot.SOON_SECONDS = 0.0  # all are forecast
    runs.mkdir(parents=True, exist_ok=True)
    all_pairs = list(pairs(shared, runs / "data"))
    for pair in all_pairs:
        if train and (not only or any(word in pair.name for word in only)):
            _train(pair, runs, of)
    records = kept(FILE)
    measured = [(pair, {one["recipe"]: one for one in records if one["pair"] == pair.name}) for pair in all_pairs]
    rows = [(pair, found) for pair, found in measured if AUTO in found and len(found) >= FEWEST]
    write_result(__file__, "\n".join([f"{__doc__}", measured_on(records), "", *_lines(rows)]))


def _train(pair: Pair, runs: Path, of: tuple[str, ...]) -> None:
    """Train a pair's base where it is missing, and what no record was kept of."""
    settings = FitSettings.from_values(merged(pair.values, {"hardware": {"threads": 1}}))
    base = run_place(runs, pair)
    fit_base(settings, base, progress=LineProgress(Console()))
    done = {one["recipe"] for one in kept(FILE) if one["pair"] == pair.name}
    open_to_clusters = _open(base)
    for name, values in recipes(settings, base):
        if name not in done and (not of or name in of):
            found = {"pair": pair.name, "recipe": name, **_gained(settings, base, values, runs)}
            print(found, flush=True)
            keep(FILE, {**found, "open": open_to_clusters}, "pair", "recipe")


def recipes(settings: FitSettings, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What no option is given for, and the grid: the settings of each by its name."""
    yield AUTO, {}
    rate = settings.base.learning_rate

    def recipe(part: str, clusters: tuple[int, ...], share: float) -> dict[str, Any]:
        return {
            "specialist": {"trainable": part, "learning_rate": rate * share},
            "partition": {"clusters": list(clusters), "together": len(clusters) > 1},
            "gate": {"passes": 1.5},
        }

    yield "whole 9, L/16", recipe("all", (9,), 1 / 16)
    for name, share in (("L", 1.0), ("L/4", 0.25)):
        yield f"copy, {name}", recipe("all", (1,), share)
        yield f"whole 9, {name}", recipe("all", (9,), share)
    yield "whole 3, L/4", recipe("all", (3,), 0.25)
    yield "whole 9+3, L/4", recipe("all", (9, 3), 0.25)
    try:
        with_tail = FitSettings.from_values({**settings.given(), "recipe": "tails"})
        tail = prepare(with_tail, base_run=base).settings.specialist.trainable
    except SettingsError:  # it has none
        return
    for name, share in (("L", 1.0), ("L/4", 0.25)):
        yield f"tails 9, {name}", recipe(tail, (9,), share)
        yield f"tails 9+3, {name}", recipe(tail, (9, 3), share)
    yield "tails 9+3+1, L", recipe(tail, (9, 3, 1), 1.0)
    yield "tail 1, L", recipe(tail, (1,), 1.0)


def _open(base: Path) -> float:
    """Of the base's errors on validation, the share in the likeliest cluster, of as many as a recipe of tails takes."""
    run = Run.open(base)
    splits, found = base_of_run(run)
    base_NC, label_N = base_logits(found, splits, "validation")
    return open_share(BasePredictions(base_NC, label_N), spectral(run, found, base_NC, label_N, CLUSTERS[0]))


def _gained(settings: FitSettings, base: Path, values: dict[str, Any], runs: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=runs) as folder:
        # No gain is too small to go on, and all that have a pilot are forecast.
        fit(FitSettings.from_values(merged(settings.given(), values)), Path(folder) / "run", base_run=base, gain=-100)
        return figures_of(Run.open_complete(Path(folder) / "run"))


def _lines(rows: list[Row]) -> Iterator[str]:
    shares: list[tuple[float, bool]] = []
    cells = []
    for pair, found in rows:
        auto, grid = found[AUTO], {name: one for name, one in found.items() if name != AUTO}
        best = max(grid, key=lambda name: grid[name]["gain"])
        share = auto["gain"] / grid[best]["gain"] if grid[best]["gain"] > 0 else np.nan
        # Of few recipes the best says little of a grid.
        if 100 * grid[best]["gain"] > WORTH and len(grid) >= WHOLE:
            shares.append((share, pair.aside))
        cells.append(
            (
                pair.name + (" (aside)" if pair.aside else ""),
                f"{100 * auto['base']:.1f}",
                f"{auto['open']:.0%}" if any(name.startswith("tail") for name in found) else "",
                f"{auto['recipe_found']}, {auto['epochs']} epochs",
                _interval(auto),
                *(f"{auto[name]:.2f}" for name in ("passes", "training", "storage")),
                str(len(grid)),
                best,
                _interval(grid[best]),
                f"{share:.0%}" if 100 * grid[best]["gain"] > WORTH else "",
                f"{100 * min(one['gain'] for one in grid.values()):+.2f}",
                in_points(auto["forecast"]) if auto.get("forecast") else "",
            )
        )
    yield markdown_table(HEAD, cells)
    yield ""
    for name, some in (("all", shares), ("set aside", [one for one in shares if one[1]])):
        if some:
            share_P = np.array([share for share, _ in some])
            yield (
                f"Pairs with {WHOLE} recipes at least, the best of which gains over {WORTH} points, {name}: "
                f"{len(some)}; of its gain, "
                f"auto reaches {share_P.mean():.0%} on average, {share_P.min():.0%} at least. "
            )
    yield _foretold([found[AUTO] for _, found in rows if found[AUTO].get("forecast")])
    yield ""
    names = list(dict.fromkeys(name for _, found in rows for name in found))
    gains = [(pair.name, *(_gain(found.get(name)) for name in names)) for pair, found in rows]
    yield "Gains of all recipes on test, in points:\n"
    yield markdown_table(("pair", *names), gains)


def _foretold(autos: Sequence[dict[str, Any]]) -> str:
    """How near forecasts of what auto gains came, in points."""
    if len(autos) < FEWEST:
        return ""
    gain_P = 100 * np.array([one["gain"] for one in autos])
    said_P, low_P, high_P = 100 * np.array([one["forecast"] for one in autos]).T
    inside = np.mean((low_P <= gain_P) & (gain_P <= high_P))
    return (
        f"Forecasts of auto, {len(autos)} pairs: {inside:.0%} of the gains in their intervals, mean absolute error "
        f"{np.abs(said_P - gain_P).mean():.2f} points, rank correlation {spearmanr(said_P, gain_P).statistic:.2f}."
    )


def _interval(one: dict[str, Any]) -> str:
    return in_points((one["gain"], one["low"], one["high"]))


def _gain(one: dict[str, Any] | None) -> str:
    return "" if one is None else f"{100 * one['gain']:+.2f}"


if __name__ == "__main__":
    command(main)
