import numpy as np
from rich.console import Console
from scipy.stats import t

from coterie.cli.terminal.seeds import print_seed_runs
from coterie.measures.report import Curve, Report

MINUS = "\N{MINUS SIGN}"


def report(gain: float) -> Report:
    return Report(
        100, 0.7, 0.9, 0.7 + gain, 0.9, gain, gain - 0.01, gain + 0.01, 0.4, 1.4, 0.85, 0.8, 0.8, 0.5, 3, 1, (),
        Curve((0.0,), (0.0,), (0.7,)),
    )  # fmt: skip


def test_each_run_has_a_row_and_the_mean_its_interval(console: Console) -> None:
    print_seed_runs(console, {"seed 0": report(0.02), "seed 1": report(0.005)})
    text = console.export_text(clear=False)
    first = next(line for line in text.splitlines() if line.strip().startswith("seed 0"))
    assert first.split() == ["seed", "0", "70.00", "72.00", "+2.00", "(+1.00", "to", "+3.00)", "1.40"]
    assert f"+0.50 ({MINUS}0.50 to +1.50)" in text
    half = 100 * t.ppf(0.975, 1) * np.std([0.02, 0.005], ddof=1) / np.sqrt(2)
    assert f"mean gain over 2 seeds: +1.25 ({MINUS}{half - 1.25:.2f} to +{half + 1.25:.2f}) points" in text


def test_no_run_has_no_mean(console: Console) -> None:
    print_seed_runs(console, {})
    assert "mean gain" not in console.export_text(clear=False)
