import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.backbones.deltas import _shared_out, decode, encode, quantise
from coterie.config import EXACT_BITS
from coterie.config.stages import FEWEST_BITS, MOST_BITS


def nets(seed: int, rows: int = 5, columns: int = 7) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A base, and weights near it: of a frozen layer, a convolution, a norm, and a head of another width."""
    generator = torch.Generator().manual_seed(seed)
    base = {
        "frozen": torch.randn(3, 4, generator=generator),
        "conv": torch.randn(rows, columns, 3, 3, generator=generator),
        "norm": torch.randn(rows, generator=generator),
        "head": torch.randn(10, rows, generator=generator),
    }
    weights = {name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) for name, tensor in base.items()}
    return base, {**weights, "frozen": base["frozen"].clone(), "head": weights["head"][:4].clone()}


def test_exactly_is_exactly_and_what_is_the_bases_is_not_kept() -> None:
    base, weights = nets(0)
    kept = encode(weights, base, EXACT_BITS)
    assert set(kept) == {"conv", "norm", "head"}
    again = decode(kept, base)
    assert all(torch.equal(again[name], weights[name]) for name in kept)


@given(st.integers(0, 2**31), st.sampled_from((2, 2.5, 3, 4, 8)), st.integers(1, 9), st.integers(1, 9))
def test_few_bits_come_back_to_within_half_a_step(seed, bits, rows, columns) -> None:
    base, weights = nets(seed, rows, columns)
    kept = encode(weights, base, bits)
    again = decode(kept, base)
    assert set(again) == {"conv", "norm", "head"}
    for name in ("norm", "head"):
        assert kept[name].dtype == torch.float16
        torch.testing.assert_close(again[name], weights[name], rtol=1e-3, atol=1e-6)
    step = kept["conv:step"].float()[:, None, None, None]
    delta, back = weights["conv"] - base["conv"], again["conv"] - base["conv"]
    assert ((back - delta).abs() <= step * 0.5 + 1e-5).all()


@pytest.mark.parametrize("bits", [2, 2.5, 3, 4])  # with 8, a byte's numbers are fine enough to take fewer
def test_the_mean_length_is_as_promised_and_near_the_entropy_of_the_numbers(bits: float) -> None:
    delta_RK = torch.randn(64, 576, generator=torch.Generator().manual_seed(0))
    coded, step_R = quantise(delta_RK, bits)
    length = 8 * len(coded) / delta_RK.numel()
    assert bits - 0.15 < length <= bits
    number_N = np.round(delta_RK.numpy() / step_R.float().numpy()[:, None]).ravel()
    share_V = np.unique(number_N, return_counts=True)[1] / number_N.size
    entropy = -(share_V * np.log2(share_V)).sum()
    assert entropy <= length < entropy + 0.15
    # At high rates a uniform step's error is step^2 / 12 (Gish and Pierce 1968), at a rate of h(x) - log2(step).
    assert float(step_R.float().mean()) == pytest.approx(2 ** (0.5 * np.log2(2 * np.pi * np.e) - entropy), rel=0.1)


@pytest.mark.parametrize("bits", [1.3, 1.7, 3])
@pytest.mark.parametrize("by_moments", [False, True])
def test_many_rows_of_other_sizes_take_the_bits_that_are_allowed(bits: float, by_moments: bool) -> None:
    """The step is sought with some of the rows; those left out are larger here."""
    generator = torch.Generator().manual_seed(1)
    delta_RK = torch.randn(320, 96, generator=generator)
    delta_RK[1::5] *= 3
    input_NK = torch.randn(500, 96, generator=generator) @ torch.randn(96, 96, generator=generator)
    coded, _ = quantise(delta_RK, bits, input_NK.T @ input_NK if by_moments else None)
    assert bits - 0.1 < 8 * len(coded) / delta_RK.numel() <= bits


def test_more_bits_are_nearer_and_a_row_without_difference_stays() -> None:
    base, weights = nets(3)
    weights["conv"][2] = base["conv"][2]
    errors = []
    for bits in (2, 2.5, 3, 4, 8):
        again = decode(encode(weights, base, bits), base)["conv"]
        torch.testing.assert_close(again[2], base["conv"][2], rtol=0, atol=1e-7)
        errors.append(float((again - weights["conv"]).norm() / (weights["conv"] - base["conv"]).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


@given(st.integers(0, 2**31), st.floats(1.2, 8), st.booleans())
def test_bits_are_shared_out_such_that_none_is_worth_more_elsewhere(seed: int, bits: float, by_moments: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes, by = {"small": (3, 8), "large": (40, 16), "changed": (20, 8)}, {"small": 0.1, "large": 0.1, "changed": 0.5}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    deltas = {name: by[name] * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    inputs = {
        name: torch.randn(50, columns, generator=generator) if by_moments else torch.eye(columns)
        for name, (_, columns) in shapes.items()
    }
    moments = {name: input_NK.T @ input_NK for name, input_NK in inputs.items()} if by_moments else {}
    base = {name: weights[name] - delta for name, delta in deltas.items()}
    share = _shared_out(bits, list(shapes), weights, base, moments)
    assert sum(share[name] * delta.numel() for name, delta in deltas.items()) == pytest.approx(
        bits * sum(delta.numel() for delta in deltas.values())
    )

    def worth(name: str) -> float:
        """Of a further bit for one number: what it saves of the error of the layer's answers, relative to these."""
        error = float((inputs[name] @ deltas[name].T).square().sum() / (inputs[name] @ weights[name].T).square().sum())
        return error * 4 ** -share[name] / deltas[name].numel()

    for name in shapes:
        for other in shapes:
            if share[name] > FEWEST_BITS + 1e-6 and share[other] < MOST_BITS - 1e-6:
                assert worth(name) >= worth(other) * (1 - 1e-3)


def test_weights_that_are_not_finite_stop_nothing() -> None:
    """As a training leaves them that diverged."""
    base, weights = nets(5)
    weights["conv"][0], weights["norm"][0] = torch.nan, torch.inf
    again = decode(encode(weights, base, 3), base)
    assert again["norm"].isinf().tolist() == [True, False, False, False, False]
    assert again["conv"].shape == weights["conv"].shape


@pytest.mark.parametrize("damage", [lambda codes: codes[:-3], lambda codes: codes.flip(0)])
def test_damaged_codes_are_refused(damage) -> None:
    base, weights = nets(0)
    kept = encode(weights, base, 4)
    with pytest.raises(ValueError, match="code"):
        decode({**kept, "conv:codes": damage(kept["conv:codes"])}, base)


def test_the_differences_from_another_base_are_refused() -> None:
    base, weights = nets(0)
    with pytest.raises(ValueError, match="the base has no conv"):
        decode(encode(weights, base, 4), {"norm": base["norm"]})
