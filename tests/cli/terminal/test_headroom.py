import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from coterie.cli.terminal.headroom import print_headroom
from coterie.progress import Progress
from coterie.studies.headroom.costs import SpecialistPrice
from coterie.studies.headroom.study import HeadroomRequest, HeadroomStudy, read_source, study_headroom


@pytest.fixture
def study(tmp_path) -> HeadroomStudy:
    rng = np.random.default_rng(0)
    label_N = rng.integers(6, size=300)
    logits_NC = rng.normal(size=(300, 6)) + 2 * np.eye(6)[label_N]
    np.savez(tmp_path / "some.npz", logits_validation=logits_NC, labels_validation=label_N)
    return study_headroom(read_source(tmp_path / "some.npz"), HeadroomRequest(("average",), (2, 3)), Progress())


def test_the_table_fits_eighty_columns_and_the_advice_follows(study: HeadroomStudy) -> None:
    console = Console(file=io.StringIO(), width=80, record=True)
    print_headroom(console, study)
    text = console.export_text(clear=False)
    assert max(map(len, text.splitlines())) <= 80
    rows = [line for line in text.splitlines() if line.startswith("average ") and "ep." in line]
    assert len(rows) == len(study.headroom.settings)
    for row, setting, cost in zip(rows, study.headroom.settings, study.costs, strict=True):
        assert f"{100 * setting.restricted_accuracy:.1f}" in row
        assert f"{cost.epochs:.0f} ep." in row
    assert ("Train them" in text) == study.headroom.advice.train
    assert " ".join(study.headroom.advice.reasons[0].split()) in " ".join(text.split())


def test_known_costs_are_minutes_and_megabytes(study: HeadroomStudy, console: Console) -> None:
    price = SpecialistPrice(15, seconds=600.0, network_bytes=4_000_000)
    print_headroom(console, dataclasses.replace(study, source=dataclasses.replace(study.source, price=price)))
    text = console.export_text(clear=False)
    assert "10 min" in text
    assert "MB" in text
