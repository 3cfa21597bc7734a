import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coterie.deltas import EXACT, decode, encode, quantise


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
    kept = encode(weights, base, EXACT)
    assert set(kept) == {"conv", "norm", "head"}
    again = decode(kept, base)
    assert all(torch.equal(again[name], weights[name]) for name in kept)


@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 9), st.integers(1, 9))
def test_few_bits_come_back_to_within_half_a_step_of_what_was_inside_the_levels(seed, bits, rows, columns) -> None:
    base, weights = nets(seed, rows, columns)
    kept = encode(weights, base, bits)
    again = decode(kept, base)
    assert kept[f"conv:codes-{bits}"].nbytes == -(-rows * columns * 9 * bits // 8)
    assert set(again) == {"conv", "norm", "head"}
    assert torch.equal(again["norm"], weights["norm"])
    assert torch.equal(again["head"], weights["head"])
    step = kept["conv:step"].float()[:, None, None, None]
    delta, back = weights["conv"] - base["conv"], again["conv"] - base["conv"]
    inside = delta.abs() < step * 2**bits / 2
    assert ((back - delta).abs() <= step * 0.5 + 1e-5)[inside].all()
    assert (back.abs() <= step * (2**bits - 1) / 2 + 1e-5).all()


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_no_other_step_of_a_grid_is_better(seed: int, bits: int) -> None:
    """Against every level written out, row by row."""
    delta_RK = torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))
    codes_RK, step_R = quantise(delta_RK, bits)
    levels = np.arange(2**bits) - (2**bits - 1) / 2
    for row, codes, step in zip(delta_RK.numpy(), codes_RK.numpy(), step_R.float().numpy(), strict=True):

        def error(scale: float, row=row) -> float:
            return float((np.abs(row[:, None] - scale * levels).min(1) ** 2).sum())

        ours = float(((row - step * levels[codes]) ** 2).sum())
        assert ours == pytest.approx(error(float(step)), rel=1e-4, abs=1e-6)
        widest = 2 * np.abs(row).max() / 2**bits
        assert (
            ours <= min(error(float(np.float16(share * widest))) for share in np.linspace(0.25, 1, 16)) * 1.001 + 1e-6
        )


def test_more_bits_are_nearer_and_a_row_without_difference_stays() -> None:
    base, weights = nets(3)
    weights["conv"][2] = base["conv"][2]
    errors = []
    for bits in (1, 2, 3, 4, 8):
        again = decode(encode(weights, base, bits), base)["conv"]
        torch.testing.assert_close(again[2], base["conv"][2], rtol=0, atol=1e-7)
        errors.append(float((again - weights["conv"]).norm() / (weights["conv"] - base["conv"]).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] == pytest.approx(0.36, abs=0.05)  # a Gaussian's least at two bits, uniform levels: 0.345
    assert errors[-1] < 0.01


def test_the_differences_from_another_base_are_refused() -> None:
    base, weights = nets(0)
    with pytest.raises(ValueError, match="the base has no conv"):
        decode(encode(weights, base, 4), {"norm": base["norm"]})
