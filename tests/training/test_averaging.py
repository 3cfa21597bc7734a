import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coterie.training.averaging import RunningAverage


def network_with(value: float) -> nn.Module:
    network = nn.BatchNorm1d(2)
    put(network, value)
    return network


def put(network: nn.Module, value: float) -> None:
    nn.init.constant_(network.weight, value)
    nn.init.constant_(network.running_mean, 10 * value)


def result(average: RunningAverage) -> np.ndarray:
    network = network_with(-1)
    average.finish(network)
    return torch.cat([network.weight, network.running_mean]).detach().numpy()


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8), st.floats(0.1, 0.99), st.data())
def test_older_weights_count_less_by_the_decay_running_statistics_too_also_when_cut(values, decay, data) -> None:
    # Written out: the first step's weights, then each step moves by 1 - decay towards its own.
    expected = values[0]
    for value in values[1:]:
        expected = decay * expected + (1 - decay) * value
    cut, network = data.draw(st.integers(0, len(values))), network_with(0)
    first, second = RunningAverage(network, decay), RunningAverage(network_with(7), decay)
    for step, value in enumerate(values):
        if step == cut:
            second.restore(first.state())
            first = second
        put(network, value)
        first.step(network)
    np.testing.assert_allclose(result(first), np.repeat([expected, 10 * expected], 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_the_average_of_a_network_is_that_of_a_plain_loop_over_its_state(decay: float) -> None:
    """Of matrices, biases, norms and running statistics; and in float64, whose sums round differently."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    average, expected = RunningAverage(network, decay), {}
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(6):
        optimizer.zero_grad()
        network(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        average.step(network)
        for name, tensor in network.state_dict().items():
            now = tensor.double()
            expected[name] = now if not step else decay * expected[name] + (1 - decay) * now
    average.finish(network)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_without_decay_the_last_weights_stay() -> None:
    network = network_with(2)
    average = RunningAverage(network, 0.0)
    put(network, 3)
    average.step(network)
    assert average.state() == {}
    average.restore({})
    average.finish(network)
    assert network.weight.tolist() == [3, 3]


def test_with_a_warm_up_a_short_training_forgets_where_it_began() -> None:
    network = nn.Linear(1, 1)
    average, expected = RunningAverage(network, 0.99, warmup=True), 0.0
    for step in range(8):
        with torch.no_grad():
            network.weight.fill_(step)
        average.step(network)
        kept = min(0.99, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    average.finish(network)
    assert network.weight.item() == pytest.approx(expected)
    assert expected > 4
