"""What a run folder holds."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coterie.cli.terminal.report import rule_line
from coterie.measures.significance import Interval
from coterie.pages.format import gain, mebibytes, rough_duration
from coterie.run.manifest import Manifest
from coterie.run.values import rule_of


def print_info(console: Console, path: str, manifest: Manifest, size: int) -> None:
    """What a run folder holds."""
    table = Table(show_header=False, box=None)
    data, pilot = manifest.data, manifest.pilot
    rows = {
        "run": path,
        "state": "finished" if manifest.complete else "unfinished: the same `coterie fit` command goes on with it",
        "data": data.about if data else "not yet read",
        "classes": str(len(data.classes)) if data else "",
        "backbone": manifest.settings.backbone,
        "head": f"{manifest.head.path} ({manifest.head.in_features} to {manifest.head.out_features})"
        if manifest.head
        else "",
        "clusters": ", ".join(str(len(m)) for m in manifest.partition.members) + " classes"
        if manifest.partition
        else "",
        "forecast": f"{gain(Interval(pilot.gain, pilot.low, pilot.high))} by a pilot of {len(pilot.clusters)}"
        if pilot
        else "",
        "rule": rule_line(rule_of(manifest)) if manifest.gate else "",
        "trained": "; ".join(f"{name} {rough_duration(seconds)}" for name, seconds in manifest.seconds.items()),
        "files": str(len(manifest.files)),
        "disk": mebibytes(size, 1)
        + (f"; at most {mebibytes(manifest.disk_bytes)} while it runs" if manifest.disk_bytes else ""),
        "versions": _show(manifest.versions),
        "later with": "; ".join(
            _show({name: number for name, number in versions.items() if manifest.versions.get(name) != number})
            for versions in manifest.later_versions
        ),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value, overflow="fold"))
    console.print(table)


def _show(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
