import numpy as np
import pytest
import torch
from torch import nn

from coterie.backbones import build, find_head
from coterie.config import HardwareSettings
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_features, compute_logits, device_passes, put_in_use
from helpers import image_form, make_split

CPU = torch.device("cpu")
FABRIC = make_fabric(HardwareSettings(accelerator="cpu", precision="fp32"))
SPLIT, FORM = make_split(4, 6, 0), image_form(1, 12)


@pytest.fixture
def network() -> nn.Module:
    return build("convnet-8", 6, FORM, 0)


def test_logits_are_those_of_one_pass_over_all_inputs_in_order(network) -> None:
    with torch.no_grad():
        expected = network.eval()(FORM(SPLIT.samples.read(torch.arange(len(SPLIT)))))
    parts = list(device_passes(FABRIC, network.train(), SPLIT.samples, FORM, batch_size=7))
    assert [len(part) for part in parts] == [7, 7, 7, 3]
    assert not network.training
    torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(compute_logits(FABRIC, network, SPLIT.samples, FORM), expected.numpy(), atol=1e-5)


def test_features_are_what_the_head_takes(network) -> None:
    head = find_head(network.eval(), 6, FORM.example()[:2])
    features_ND = compute_features(FABRIC, network, head, SPLIT.samples, FORM)
    assert features_ND.shape == (len(SPLIT), network.head.in_features)
    with torch.no_grad():
        logits = network.head(torch.from_numpy(features_ND)).numpy()
    np.testing.assert_allclose(logits, compute_logits(FABRIC, network, SPLIT.samples, FORM), atol=1e-5)


class ByLength(ImagePreprocessing):
    """As a network of tokens would have its samples read."""

    by_length = True


class Backwards(MemorySamples):
    """The later ones are the shorter ones."""

    def take(self, rows: torch.Tensor) -> "Backwards":
        return Backwards(self.values_N, self.rows[rows])

    def lengths(self) -> torch.Tensor:
        return -self.rows


def test_samples_that_are_read_by_length_keep_their_order(network) -> None:
    samples = Backwards(SPLIT.samples.read(torch.arange(len(SPLIT))))
    form, seen = ByLength(**vars(FORM)), []
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    logits_NC = compute_logits(FABRIC, network, samples, form)
    assert torch.equal(seen[0], form(samples.read(torch.arange(len(samples)).flip(0))))
    np.testing.assert_allclose(logits_NC, compute_logits(FABRIC, network, SPLIT.samples, FORM), atol=1e-5)
    head = find_head(network.eval(), 6, FORM.example()[:2])
    features = [
        compute_features(FABRIC, network, head, some, each) for some, each in ((samples, form), (SPLIT.samples, FORM))
    ]
    np.testing.assert_allclose(*features, atol=1e-5)


def test_a_network_that_has_been_used_can_be_trained(network) -> None:
    compute_logits(FABRIC, network, SPLIT.samples, FORM)
    with torch.inference_mode():
        put_in_use(network, torch.device("cpu"))
    assert not any(parameter.is_inference() for parameter in network.parameters())
    network.train()(FORM.example()).sum().backward()
    assert network.head.weight.grad is not None


def test_bf16_gives_float32_logits_about_those_of_fp32(network) -> None:
    exact = compute_logits(FABRIC, network, SPLIT.samples, FORM, batch_size=13)
    rough = compute_logits(
        make_fabric(HardwareSettings(accelerator="cpu", precision="bf16")), network, SPLIT.samples, FORM
    )
    assert exact.dtype == rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_a_network_in_use_is_not_written_to() -> None:
    """Other threads may be running it: not even its own values are put into its weights again."""
    network = put_in_use(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1, groups=4), nn.Dropout()), CPU)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    applied: list[object] = []
    network._apply = lambda *arguments, **_: applied.append(arguments)
    assert put_in_use(network, CPU) is network
    assert not applied
    network[2].train()
    put_in_use(network, CPU)
    assert applied
    assert not network[2].training
