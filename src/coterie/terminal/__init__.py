"""What the command line prints: progress, the plan, tables of figures; a kind of output a file."""

from coterie.terminal.headroom import print_headroom
from coterie.terminal.info import print_info
from coterie.terminal.partition import print_partition
from coterie.terminal.plan import print_plan
from coterie.terminal.predictions import print_predictions
from coterie.terminal.progress import BarProgress, LineProgress, make_progress, show_duration
from coterie.terminal.report import headline, print_report

__all__ = [
    "BarProgress",
    "LineProgress",
    "headline",
    "make_progress",
    "print_headroom",
    "print_info",
    "print_partition",
    "print_plan",
    "print_predictions",
    "print_report",
    "show_duration",
]
