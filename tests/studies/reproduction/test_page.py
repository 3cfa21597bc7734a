from coterie.measures.report import ClusterRow, Curve, Report
from coterie.studies.reproduction.page import render
from coterie.studies.reproduction.study import paper_figures
from coterie.studies.reproduction.tables import summarise


def report(gain: float) -> Report:
    row = ClusterRow(0, (0, 1), 100, 0.7, 0.75, 0.8, 0.9, 0.9, 0.9)
    return Report(
        100, 0.7, 0.9, 0.7 + gain, 0.9, gain, gain, gain, 0.4, 1.4, 0.85, 0.75, 0.8, 0.5, 3, 1, (row,),
        Curve((0.0,), (0.0,), (0.7,)),
    )  # fmt: skip


def test_ours_and_the_papers_rows_are_there() -> None:
    result = summarise({3: [report(0.01), report(0.03)]}, (), (0, 1), paper_figures(), ["a <note>"])
    page = render(result, "Made up.")
    assert "+2.00 (" in page
    assert "70.00 ±0.00" in page
    assert f"{100 * paper_figures().ensemble:.2f}" in page
    assert page.count("<tr><td>seed 0,") == page.count("<tr><td>seed 1,") == 1
    assert page.count("<tr><td>paper,") == 3
    assert "a &lt;note&gt;" in page
    assert "Against the same budget spent otherwise" not in page  # no control was compared


def test_one_seed_has_no_interval() -> None:
    page = render(summarise({3: [report(0.01)]}, (), (0,), paper_figures()), "Made up.")
    assert "+1.00<" in page
    assert "±" not in page.partition("<h2>Which claims")[2].partition("<h2>Within")[0]
