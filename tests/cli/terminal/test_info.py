from rich.console import Console

from coterie.cli.terminal.info import print_info
from coterie.run.manifest import GateRecord, Manifest, PilotRecord
from helpers import make_settings


def printed(console: Console, manifest: Manifest, size: int = 2**20) -> dict[str, str]:
    """The rows by name."""
    print_info(console, "runs/mine", manifest, size)
    lines = console.export_text(clear=False).splitlines()
    return {name: value.strip() for name, _, value in (line.strip().partition(" ") for line in lines)}


def test_a_run_that_has_just_begun_says_so(console: Console) -> None:
    rows = printed(console, Manifest(settings=make_settings()))
    assert rows["state"].startswith("unfinished")
    assert rows["data"] == "not yet read"
    assert rows["backbone"] == "convnet-8"
    assert rows["disk"] == "1.0 MiB"
    assert not {"rule", "clusters", "head", "trained"} & set(rows)


def test_a_finished_run_says_its_rule_and_times(console: Console) -> None:
    gate = GateRecord(score="margin", combiner="hard", threshold=0.2)
    manifest = Manifest(
        settings=make_settings(), complete=True, gate=gate, seconds={"base": 125.0}, disk_bytes=3 * 2**20
    )
    rows = printed(console, manifest)
    assert rows["state"] == "finished"
    assert rows["rule"] == "hard, routed at 0.2 and above (margin)"
    assert rows["trained"] == "base 2 min"
    assert rows["disk"] == "1.0 MiB; at most 3 MiB while it runs"


def test_a_forecast_stands_beside_the_rule(console: Console) -> None:
    pilot = PilotRecord(clusters=(1, 4), skill=0.1, spread=0.05, gain=0.012, low=0.003, high=0.02)
    rows = printed(console, Manifest(settings=make_settings(), pilot=pilot))
    assert rows["forecast"] == "+1.20 (+0.30 to +2.00) by a pilot of 2"


def test_later_versions_are_those_that_differ(console: Console) -> None:
    versions = {"coterie": "0.1.0", "torch": "2.6"}
    manifest = Manifest(settings=make_settings(), versions=versions, later_versions=({**versions, "torch": "2.7"},))
    rows = printed(console, manifest)
    assert rows["versions"] == "coterie 0.1.0, torch 2.6"
    assert rows["later"] == "with  torch 2.7"
