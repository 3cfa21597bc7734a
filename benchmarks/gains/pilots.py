"""Does the pilot of `coterie fit` foretell what all specialists gain?

Question: over bases and data of many kinds (a pair each), what did the first specialists foretell, what did the
ensemble gain on test, and was "train" or "don't" (half a point) right? The specialists are those that `fit` finds by
itself where these are of several clusters, and else whole ones of nine (recipe `whole`). The skill that headroom
assumes of any base stands beside it. All runs are trained to their end, by the bases of benchmarks/gains/recipes.py.
Pairs marked "aside" took no part in any choice of the pilot.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.gains.pairs import Pair, in_points, merged, pairs, run_place
from benchmarks.shared import both_outputs, command, keep, kept, markdown_table, measured_on, write_result
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings
from coterie.config.recipes import WHOLE
from coterie.pipeline import pilot
from coterie.pipeline.fit import fit, fit_base
from coterie.pipeline.tuning import forecast_rule
from coterie.routing.forecast import SKILLS, BasePredictions, Outlook, forecast
from coterie.run.folder import Run
from coterie.run.names import specialist_files
from coterie.run.reporting import read_reports
from coterie.run.values import partition_of

ASKED = 0.5
FILE = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class Foretold:
    """Of a pair: accuracies and gains as shares of 1, each interval with its mean first; ``share``: of the training."""

    pair: str
    recipe: str
    base: float
    share: float
    said: tuple[float, float, float]
    got: tuple[float, float, float]
    guess: tuple[float, float, float]


def main(
    shared: Path, runs: Path, bases: Path = Path("runs/recipes"), only: tuple[str, ...] = (), train: bool = True
) -> None:
    """Train what is missing, and write the table.

    Args:
        shared: folder of cifar100, clinc150 and hwu64, each with its parquet files.
        runs: folder of the runs.
        bases: folder of the bases.
        only: pairs whose names hold one of these are trained; default: all.
        train: train what is missing. The table has all that was ever measured.
    """
    # Whatever it takes: here the pilot is what is asked about.
    pilot.SOON_SECONDS = 0.0
    runs.mkdir(parents=True, exist_ok=True)
    all_pairs = list(pairs(shared, bases / "data"))
    done = {one["pair"] for one in kept(FILE)}
    for pair in all_pairs:
        if train and pair.name not in done and (not only or any(word in pair.name for word in only)):
            found = foretold(pair, run_place(bases, pair), run_place(runs, pair))
            print(found, flush=True)
            keep(FILE, asdict(found), "pair")
    records = kept(FILE)
    known = {one["pair"]: Foretold(*(one[field.name] for field in fields(Foretold))) for one in records}
    rows = [(pair, known[pair.name]) for pair in all_pairs if pair.name in known]
    write_result(__file__, "\n".join([f"{__doc__}", measured_on(records), "", *_lines(rows)]))


def foretold(pair: Pair, base: Path, place: Path) -> Foretold:
    """Train specialists of a base to their end."""
    progress = LineProgress(Console())
    settings = FitSettings.from_values(merged(pair.values, {"hardware": {"threads": 1}}))
    fit_base(settings, base, progress=progress)
    fit(settings, place, base_run=base, gain=-100, progress=progress)
    if Run.open_complete(place).manifest.pilot is None:  # it found a copy or a probe of all classes
        place = place.with_name(f"{place.name}-{WHOLE}")
        settings = FitSettings.from_values(merged(settings.given(), {"recipe": WHOLE}))
        fit(settings, place, base_run=base, gain=-100, progress=progress)
    run = Run.open_complete(place)
    validation, report = both_outputs(run)[0], read_reports(run)["test"]
    record, partition = run.manifest.pilot, partition_of(run.manifest)
    assert record is not None
    answers, rule = BasePredictions(validation.base_NC, validation.label_N), forecast_rule(run.settings.gate)
    guess = forecast(answers, Outlook.of(answers, partition), rule, SKILLS[rule])
    files, seconds = specialist_files(partition), run.manifest.seconds
    piloted = sum(seconds[files[cluster]] for cluster in record.clusters)
    return Foretold(
        pair.name,
        run.settings.recipe,
        report.base_top1,
        piloted / sum(seconds[file] for file in files if file in seconds),
        (record.gain, record.low, record.high),
        (report.gain, report.gain_low, report.gain_high),
        (guess.gain, guess.low, guess.high),
    )


def _lines(rows: list[tuple[Pair, Foretold]]) -> Iterator[str]:
    titles = (
        "pair",
        "base",
        "recipe",
        "pilot's share",
        "forecast",
        "gained on test",
        "inside",
        "verdict",
        "guess without a pilot",
    )
    inside = [_inside(one) for _, one in rows]
    cells = [
        (
            pair.name + (" (aside)" if pair.aside else ""),
            f"{one.base:.1%}",
            one.recipe,
            f"{one.share:.0%}",
            in_points(one.said),
            in_points(one.got),
            "yes" if is_inside else "no",
            _verdict(one),
            in_points(one.guess),
        )
        for (pair, one), is_inside in zip(rows, inside, strict=True)
    ]
    yield markdown_table(titles, cells)
    yield ""
    for name, some in (("all", rows), ("set aside", [row for row in rows if row[0].aside])):
        got_P = np.array([one.got[0] for _, one in some])
        for what, said_P in (
            ("pilot", np.array([one.said[0] for _, one in some])),
            ("guess", np.array([one.guess[0] for _, one in some])),
        ):
            yield (
                f"{what}, {name}: mean absolute error {100 * np.abs(said_P - got_P).mean():.2f} points, rank "
                f"correlation {spearmanr(said_P, got_P).statistic:+.2f}, over {len(some)} pairs. "
            )
    yield f"Gains inside the pilot's interval: {sum(inside)} of {len(inside)}. "
    yield (
        "Inside: the gain is in the forecast's interval, widened by the test set's own noise. Right and wrong: of gains"
        " above 0.8 or below 0.2 points."
    )


def _inside(one: Foretold) -> bool:
    gain, got_low, got_high = one.got
    said, low, high = one.said
    noise = (got_high - got_low) / 2
    return bool(said - np.hypot(said - low, noise) <= gain <= said + np.hypot(high - said, noise))


def _verdict(one: Foretold) -> str:
    said, got = 100 * one.said[0] >= ASKED, 100 * one.got[0]
    verdict = "train" if said else "don't"
    return verdict + ("" if 0.2 <= got <= 0.8 else ", right" if said == (got > 0.8) else ", wrong")


if __name__ == "__main__":
    command(main)
