"""Tables of figures on narrow terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from coterie.cli.terminal.tables import print_figures


@pytest.mark.parametrize("width", [10, 40, 200])
def test_every_cell_of_a_table_is_printed_on_a_terminal_of_any_width(width: int) -> None:
    table = Table("stage", "samples", "restricted base", "about")
    for row in range(3):
        table.add_row("validation and test", f"{row},000,000", f"{row}0.25", "10 min")
    console = Console(file=io.StringIO(), width=width)
    print_figures(console, table)
    shown = console.file.getvalue()
    for text in ("restricted base", "2,000,000", "20.25", "validation and test", "10 min"):
        assert text in shown
    assert len(shown.splitlines()) == 7
