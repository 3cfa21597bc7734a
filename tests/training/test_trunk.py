import pytest
import torch

from coterie.backbones import build
from coterie.config import HardwareSettings
from coterie.data.batches import Augmentation, training_batches
from coterie.partition import Partition
from coterie.training.fabric import make_fabric
from coterie.training.trunk import TrunkBatches, views_kept
from helpers import image_form, make_split

CPU = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)
CUT = "stage2"
PARTITION = Partition.from_assignment([0, 0, 1, 1, 1, 2])
SPLIT = make_split(12, 6, 0)
FORM = image_form(*(SPLIT.samples.shape[2], SPLIT.samples.shape[0]))


@pytest.fixture
def base() -> torch.nn.Module:
    return build("convnet-8", 6, FORM, 0).eval()


def source():
    return training_batches(SPLIT, FORM, Augmentation(2, True), batch_size=20, seed=3, workers=0)


def trunk_of(base: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Written out."""
    with torch.no_grad():
        return base.stage2(base.stage1(base.stem(inputs)))


def rows(batches) -> set[tuple[int, bytes]]:
    return {(int(y), x.numpy().tobytes()) for inputs, labels in batches for x, y in zip(inputs, labels, strict=True)}


def test_a_view_is_what_the_trunk_makes_of_an_epoch_and_views_take_turns(base) -> None:
    device = torch.device("cpu")
    batches = TrunkBatches(source(), make_fabric(CPU), base, CUT, 2)
    views = [rows((trunk_of(base, x), y) for x, y in source().epoch(view, device)) for view in (0, 1)]
    assert views[0] != views[1]
    assert [rows(batches.epoch(number, device)) for number in range(4)] == [*views, *views]
    orders = [torch.cat([y for _, y in batches.epoch(number, device)]).tolist() for number in (0, 2)]
    assert orders[0] != orders[1]
    assert len(batches) == len(list(batches.epoch(0, device))) == 3


@pytest.mark.parametrize(("fit", "kept"), [(4, 4), (3.5, 2), (2, 1), (1, 0), (0.5, 0)])
def test_views_that_memory_does_not_hold_are_the_same_computed_again(base, fit: float, kept: int) -> None:
    device, everything = torch.device("cpu"), TrunkBatches(source(), make_fabric(CPU), base, CUT, 4)
    view_bytes = everything.view_V[0][0].nbytes
    some = TrunkBatches(source(), make_fabric(CPU), base, CUT, 4, most_bytes=fit * view_bytes)
    assert len(some.view_V) == views_kept(4, view_bytes, fit * view_bytes) == kept
    base.train()  # as where its tail is being trained
    for number in (3, 0, 7, 5):
        ours, theirs = (list(batches.epoch(number, device)) for batches in (some, everything))
        assert all(torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in zip(ours, theirs, strict=True))
    assert base.training
    assert base.stage3.training


def test_an_epoch_goes_on_at_any_step(base) -> None:
    batches = TrunkBatches(source(), make_fabric(CPU), base, CUT, 2)
    whole = list(batches.epoch(5, torch.device("cpu")))
    rest = list(batches.epoch(5, torch.device("cpu"), first=2))
    assert len(rest) == 1
    torch.testing.assert_close(rest[0], whole[2], rtol=0, atol=0)
