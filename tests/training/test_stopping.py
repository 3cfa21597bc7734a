import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coterie.backbones import build
from coterie.config import HardwareSettings, SpecialistSettings
from coterie.training.fabric import make_fabric
from coterie.training.loop import early_stopping
from coterie.training.passes import compute_logits
from coterie.training.stopping import NEVER_STOP, EarlyStopping
from helpers import image_form, make_split


class Plan:
    """Trains nothing: after epoch k the weight is k, and the validation loss the k-th."""

    def __init__(self, losses: list[float], patience: int) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        self.losses = losses
        self.stopping = EarlyStopping(patience, lambda network: losses[int(network.weight.item())])

    def run(self, begin: int = 0, end: int | None = None) -> int:
        """Epochs up to ``end``, unless it stops before; returns how many there were in all."""
        for epoch in range(begin, len(self.losses) if end is None else end):
            if self.stopping.done:
                return epoch
            nn.init.constant_(self.network.weight, epoch)
            self.stopping.epoch(self.network)
        return len(self.losses) if end is None else end

    def result(self) -> int:
        self.stopping.finish(self.network)
        return int(self.network.weight.item())


@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12), st.integers(1, 4), st.data())
def test_it_ends_so_many_epochs_after_the_best_whose_weights_it_gives_also_when_cut(losses, patience, data) -> None:
    # Written out: the first epoch whose next ones, patience of them, are no better; the first of equals is the best.
    expected = next(
        (
            epoch + 1
            for epoch in range(patience, len(losses))
            if min(losses[epoch - patience + 1 : epoch + 1]) >= min(losses[: epoch - patience + 1])
        ),
        len(losses),
    )
    whole = Plan(losses, patience)
    assert whole.run() == expected
    assert whole.result() == losses.index(min(losses[:expected]))
    cut = data.draw(st.integers(1, expected))
    first, second = Plan(losses, patience), Plan(losses, patience)
    first.run(end=cut)
    second.stopping.restore(first.stopping.state(), second.network)
    assert second.run(begin=cut) == expected
    assert second.result() == whole.result()


def test_without_patience_or_without_validation_samples_it_never_stops() -> None:
    network, split, form = nn.Linear(1, 1), make_split(2, 4, 0), image_form(1)
    fabric = make_fabric(HardwareSettings(accelerator="cpu", precision="fp32"))
    for classes, patience, validation in (([0, 1], None, split), ([0, 1], 1, None), ([8, 9], 1, split)):
        settings = SpecialistSettings(epochs=1, patience=patience)
        stopping = early_stopping(fabric, network, torch.tensor(classes).numpy(), settings, validation, form)
        assert stopping is NEVER_STOP
        assert not stopping.done
        assert stopping.state() == {}


def test_the_loss_is_that_on_the_clusters_samples_and_leaves_the_networks_mode() -> None:
    split, form, classes = make_split(6, 4, 0), image_form(1), torch.tensor([3, 1]).numpy()
    fabric = make_fabric(HardwareSettings(accelerator="cpu", precision="fp32"))
    network = build("convnet-8", 2, form, 0).train()
    network.stem.eval()
    stopping = early_stopping(fabric, network, classes, SpecialistSettings(patience=1), split, form)
    stopping.epoch(network)
    assert network.training
    assert not network.stem.training
    own = split.of_classes(classes)
    proba_NC = torch.from_numpy(compute_logits(fabric, network, own.samples, form)).softmax(1)
    expected = -proba_NC[torch.arange(len(own)), own.labels_N].log().mean()
    assert stopping.state()["validation losses"].item() == pytest.approx(expected.item(), rel=1e-5)
