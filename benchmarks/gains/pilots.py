"""Does the pilot of `coterie fit` foretell what all specialists gain?

Question: over bases and data of many kinds (a pair each), what did the first specialists foretell, what did the
ensemble gain on test, and was "train" or "don't" (half a point) right? The skill that headroom assumes of any
base stands beside it. All runs are trained to their end. Pairs marked "aside" took no part in any choice of the pilot.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

import coterie
from benchmarks.gains.pairs import Pair, merged, pairs
from benchmarks.shared import both_outputs, command, markdown_table, write_result
from coterie.cli.terminal.progress import LineProgress
from coterie.config import FitSettings
from coterie.measures.report import Report
from coterie.pipeline import pilot
from coterie.pipeline.tuning import forecast_rule
from coterie.routing.forecast import SKILLS, BasePredictions, Forecast, Outlook, forecast
from coterie.run.folder import Run
from coterie.run.manifest import PilotRecord
from coterie.run.names import specialist_files
from coterie.run.reporting import read_reports
from coterie.run.values import partition_of

ASKED = 0.5


def main(shared: Path, runs: Path) -> None:
    """Train what is missing, and write the table.

    Args:
        shared: folder of cifar100, clinc150 and hwu64, each with its parquet files.
        runs: folder of the runs; finished ones are read.
    """
    # Whatever it takes: here the pilot is what is asked about.
    pilot.SOON_SECONDS = 0.0
    progress, rows = LineProgress(Console()), []
    for pair in pairs(shared, runs / "data"):
        place = runs / "".join(c if c.isalnum() else "-" for c in pair.name)
        settings = FitSettings.from_values(merged(pair.values, {"recipe": "whole", "hardware": {"threads": 1}}))
        coterie.fit(settings, place, gain=-100, progress=progress)
        run = Run.open_complete(place)
        validation, report = both_outputs(run)[0], read_reports(run)["test"]
        record, partition = run.manifest.pilot, partition_of(run.manifest)
        assert record is not None
        answers, rule = BasePredictions(validation.base_NC, validation.label_N), forecast_rule(settings.gate)
        guess = forecast(answers, Outlook.of(answers, partition), rule, SKILLS[rule])
        files = specialist_files(partition)
        seconds = run.manifest.seconds
        share = sum(seconds[files[c]] for c in record.clusters) / sum(
            seconds[file] for file in files if file in seconds
        )
        rows.append((pair, record, report, guess, share))
        print(pair.name, record, f"{report.gain:.4f}", flush=True)
    write_result(__file__, "\n".join(_lines(rows)))


def _lines(rows: list[tuple[Pair, PilotRecord, Report, Forecast, float]]) -> Iterator[str]:
    yield f"{__doc__}"
    titles = (
        "pair",
        "base",
        "pilot's share",
        "forecast",
        "gained on test",
        "inside",
        "verdict",
        "guess without a pilot",
    )
    cells = []
    for pair, record, report, guess, share in rows:
        noise = (report.gain_high - report.gain_low) / 2
        low, high = (
            record.gain - np.hypot(record.gain - record.low, noise),
            record.gain + np.hypot(record.high - record.gain, noise),
        )
        said, got = 100 * record.gain >= ASKED, 100 * report.gain
        verdict = "train" if said else "don't"
        right = "" if 0.2 <= got <= 0.8 else (", right" if said == (got > 0.8) else ", wrong")
        cells.append(
            (
                pair.name + (" (aside)" if pair.aside else ""),
                f"{report.base_top1:.1%}",
                f"{share:.0%}",
                f"{100 * record.gain:+.2f} ({100 * record.low:+.2f} to {100 * record.high:+.2f})",
                f"{got:+.2f} ({100 * report.gain_low:+.2f} to {100 * report.gain_high:+.2f})",
                "yes" if low <= report.gain <= high else "no",
                verdict + right,
                f"{100 * guess.gain:+.2f} ({100 * guess.low:+.2f} to {100 * guess.high:+.2f})",
            )
        )
    yield markdown_table(titles, cells)
    got_P = np.array([report.gain for _, _, report, _, _ in rows])
    yield ""
    for name, said_P in (
        ("pilot", np.array([record.gain for _, record, _, _, _ in rows])),
        ("guess", np.array([guess.gain for _, _, _, guess, _ in rows])),
    ):
        yield (
            f"{name}: mean absolute error {100 * np.abs(said_P - got_P).mean():.2f} points, rank correlation "
            f"{spearmanr(said_P, got_P).statistic:+.2f}, over {len(rows)} pairs. "
        )
    yield (
        "Inside: the gain is in the forecast's interval, widened by the test set's own noise. Right and wrong: of gains"
        " above 0.8 or below 0.2 points."
    )


if __name__ == "__main__":
    command(main)
