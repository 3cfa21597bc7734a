from types import SimpleNamespace

from rich.console import Console

from coterie.cli.terminal.predictions import print_predictions
from coterie.ensemble.explanation import Explanation


def explanation(routed: bool, classes: tuple[str, ...] = ("a", "b")) -> Explanation:
    asked = (SimpleNamespace(cluster=1), SimpleNamespace(cluster=2)) if routed else ()
    return Explanation("a", 0.812, routed, "entropy", 0.5, 0.4, 1, classes, (("b", 0.6), ("a", 0.3)), asked)


def test_a_sample_that_was_routed_says_where_and_what_the_base_had_said(console: Console) -> None:
    print_predictions(console, [("one.png", explanation(True)), ("two.png", explanation(False))])
    text = console.export_text(clear=False).replace("\N{NO-BREAK SPACE}", " ")
    one, two = (line for line in text.splitlines() if ".png" in line)
    assert "81.2 %" in one
    assert "1, 2: a, b" in one
    assert "b 60.0 %, a 30.0 %" in one
    assert [cell.strip() for cell in two.split("│")][4] == "-"


def test_many_classes_are_cut_short(console: Console) -> None:
    print_predictions(console, [("one.png", explanation(True, tuple(f"class-{k}" for k in range(20))))])
    text = "".join(console.export_text(clear=False).split())
    assert "..." in text
    assert "class-19" not in text


def test_a_cluster_of_all_classes_names_none(console: Console) -> None:
    print_predictions(console, [("one.png", explanation(True, ()))])
    assert "1, 2: all classes" in console.export_text(clear=False)


def test_the_lines_of_a_text_are_one_line(console: Console) -> None:
    print_predictions(console, [("My order\nWhere is it?", explanation(False))])
    assert "My order Where is it?" in console.export_text(clear=False)
