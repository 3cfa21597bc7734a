from pathlib import Path

from rich.console import Console

from coterie.cli.terminal.plan import FEW, LONG, print_plan, print_shorter, print_skipped
from coterie.pipeline.plan import Plan, PlannedStage


def test_each_stage_has_a_row_and_the_sum_is_said(console: Console) -> None:
    stages = (PlannedStage("base", 12_000, 10, 1_880, 600.0), PlannedStage("evaluation", 2_000, 1, 0, 30.0))
    print_plan(console, Plan(stages, 3_214_500, "cpu", "fp32", 3 * 2**20), "Made up.")
    text = console.export_text(clear=False)
    assert text.startswith("Made up.")
    base, evaluation = (line for line in text.splitlines() if "base" in line or "evaluation" in line)
    assert [cell.strip() for cell in base.split("│")[1:-1]] == ["base", "12,000", "10", "1,880", "10 min"]
    assert [cell.strip() for cell in evaluation.split("│")[1:-1]] == ["evaluation", "2,000", "1", "", "30 s"]
    said = " ".join(text.split())
    assert (
        "3,214,500 weights, fp32 on cpu. About 10 min in all, from a measured warm-up; at most 3 MiB on disk." in said
    )


def test_the_load_that_a_plan_was_measured_under_is_said(console: Console) -> None:
    plan = Plan((PlannedStage("base", 12_000, 10, 1_880, 600.0),), 3_214_500, "cpu", "fp32", 0, others=1.52)
    print_plan(console, plan, "Made up.")
    said = " ".join(console.export_text().split())
    assert "measured warm-up while other processes kept 1.5 cores busy (on a quiet machine less); at most" in said


def test_a_shorter_way_is_named_where_a_run_takes_long_and_there_is_one(console: Console) -> None:
    long, short = ((PlannedStage("base", 12_000, 10, 1_880, seconds),) for seconds in (LONG + 1.0, LONG - 1.0))
    for stages, frozen in ((long, None), (short, 120.0)):
        print_shorter(console, Plan(stages, 1, "cpu", "fp32", 0, frozen_seconds=frozen))
    assert console.export_text(clear=False) == ""
    print_shorter(console, Plan(long, 1, "cpu", "fp32", 0, frozen_seconds=120.0))
    assert console.export_text().startswith("--data.text-as minilm takes about 2 min: the same network is left")


def test_of_many_skipped_samples_the_first_are_shown_and_the_file_of_all_is_named(console: Console) -> None:
    names = [f"pictures/[b]{number}.png: cut off" for number in range(2000)]
    print_skipped(console, [], Path("run/logs/skipped.txt"))
    assert console.export_text(clear=False) == ""
    print_skipped(console, names[:FEW], Path("run/logs/skipped.txt"))
    assert console.export_text() == "".join(f"{line}\n" for line in ["skipped: 5:", *(f"  {n}" for n in names[:FEW])])
    print_skipped(console, names, Path("run/logs/skipped.txt"))
    lines = console.export_text().splitlines()
    assert lines[0] == "skipped: 2,000; the run lists all in run/logs/skipped.txt; the first:"
    assert lines[1:] == [f"  {name}" for name in names[:FEW]]
