import numpy as np
import pytest
import torch

from coterie.backbones import build, find_head
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import HardwareSettings
from coterie.ensemble import panel as panel_module
from coterie.ensemble.panel import Panel
from coterie.partition import Partition
from coterie.progress import Progress
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_logits
from helpers import image_form, make_split

CPU = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)
CUT = "stage2"
PARTITION = Partition.from_assignment([0, 0, 1, 1, 1, 2])
SPLIT = make_split(12, 6, 0)
FORM = image_form(*(SPLIT.samples.shape[2], SPLIT.samples.shape[0]))


@pytest.fixture
def base() -> torch.nn.Module:
    return build("convnet-8", 6, FORM, 0).eval()


def panels(base: torch.nn.Module) -> tuple[Panel, Panel]:
    """Asked whole, and by tails on a shared trunk."""
    head = find_head(base, 6, torch.randn(2, *FORM.example().shape[1:]))
    specialists = {}
    for cluster in (0, 1):
        specialists[cluster] = make_specialist(base, head, PARTITION.classes(cluster)).eval()
        generator = torch.Generator().manual_seed(cluster)
        for parameter in specialists[cluster].stage3.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    tails = {cluster: as_asked(network, CUT, FORM.example()) for cluster, network in specialists.items()}
    fabric = make_fabric(CPU)
    return Panel(fabric, base, specialists, FORM, None), Panel(fabric, base, tails, FORM, CUT)


def test_tails_on_a_shared_trunk_say_what_whole_specialists_say(base, monkeypatch) -> None:
    whole, shared = panels(base)
    monkeypatch.setattr(panel_module, "CHUNK", 50)
    for (base_NC, packed_NM), panel in ((panel.ask_all(SPLIT.samples, PARTITION), panel) for panel in (whole, shared)):
        np.testing.assert_allclose(base_NC, compute_logits(panel.computing, base, SPLIT.samples, FORM), atol=1e-5)
        for cluster, network in whole.specialists.items():
            alone = compute_logits(panel.computing, network, SPLIT.samples, FORM)
            np.testing.assert_allclose(packed_NM[:, PARTITION.columns(cluster)], alone, atol=1e-5)
        assert not packed_NM[:, PARTITION.columns(2)].any()
    row_R = torch.tensor([40, 3, 17])
    inputs = FORM(SPLIT.samples.read(torch.arange(len(SPLIT))))
    answers = [panel.ask(SPLIT.samples)[1]({1: row_R.numpy()})[0] for panel in (whole, shared)]
    answers += [panel.ask_inputs(inputs)[1]({1: row_R.numpy()})[0] for panel in (whole, shared)]
    for answer in answers:
        np.testing.assert_allclose(answer.detach(), packed_NM[row_R][:, PARTITION.columns(1)], atol=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_progress_is_told_of_as_many_steps_as_were_promised(base, place, monkeypatch) -> None:
    panel, told = panels(base)[place], [0, 0]

    class Counting(Progress):
        def advance(self, steps: int, n_images: int = 0, loss=None, accuracy=None) -> None:
            told[0] += steps
            told[1] += n_images

    monkeypatch.setattr(panel_module, "CHUNK", 50)
    panel.ask_all(SPLIT.samples, PARTITION, Counting())
    assert told[0] == panel.n_steps(SPLIT.samples) == (3 * -(-72 // FORM.at_once) if place == 0 else 2)
    assert told[1] == (3 * 72 if place == 0 else 72)


def test_the_trunk_runs_once_and_its_output_is_held_for_a_chunk_of_limited_size(base, monkeypatch) -> None:
    _, shared = panels(base)
    calls: list[int] = []
    base.stem.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    monkeypatch.setattr(
        panel_module, "CHUNK_BYTES", 30 * base.stage2(base.stage1(base.stem(FORM.example()[:1]))).nbytes
    )
    calls.clear()
    chunks = [len(part) for part in shared.chunks(SPLIT.samples)]
    assert chunks == [30, 30, 12]
    shared.ask_all(SPLIT.samples, PARTITION)
    assert sum(calls) == len(SPLIT) + 1  # and one sample for a look at the size
