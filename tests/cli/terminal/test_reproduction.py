from rich.console import Console

from coterie.cli.terminal.reproduction import print_reproduction
from coterie.measures.report import ClusterRow, Curve, Report
from coterie.studies.reproduction.study import paper_figures
from coterie.studies.reproduction.tables import summarise


def report(gain: float) -> Report:
    row = ClusterRow(0, (0, 1), 100, 0.7, 0.75, 0.8, 0.9, 0.9, 0.9)
    return Report(
        100, 0.7, 0.9, 0.7 + gain, 0.9, gain, gain, gain, 0.4, 1.4, 0.85, 0.75, 0.8, 0.5, 3, 1, (row,),
        Curve((0.0,), (0.0,), (0.7,)),
    )  # fmt: skip


def test_ours_stands_beside_the_papers(console: Console) -> None:
    reports = {s: [report(0.01), report(0.02)] for s in (3, 9)}
    print_reproduction(console, summarise(reports, (), (0, 1), paper_figures(), ["seed 2 is unfinished and left out"]))
    lines = {line.strip().partition("  ")[0]: line for line in console.export_text(clear=False).splitlines()}
    assert "70.00 ±0.00" in lines["base"]
    paper = paper_figures()
    assert lines["ensemble"].rstrip().endswith(f"{100 * paper.ensemble:.2f}")
    assert lines["gain, points"].rstrip().endswith(f"+{100 * (paper.ensemble - paper.base):.2f}")
    assert "+1.50 (" in lines["gain, points"]
    assert any(line.startswith("- The gain grows with the number of clusters?") for line in lines.values())
    assert "- seed 2 is unfinished and left out" in lines
