"""A specialist's weights as differences from the base's, in few bits each (as Liu et al. 2024, arXiv 2402.10193).

A specialist starts from the base and ends near it: its matrices are kept as the base's plus a step per row times small
whole numbers. What has no like among the base's weights, and vectors, which weigh nothing, are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

EXACT = 32
# Of a tensor NAME, NAME:codes-BITS holds the packed numbers of levels and NAME:step their step, one a row.
CODES, STEP = ":codes-", ":step"
# The step is the best, in squares, of these shares of the one that reaches the largest difference.
SHARES = tuple(np.linspace(0.25, 1.0, 16).tolist())


def encode(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], bits: int) -> dict[str, Tensor]:
    """What must be kept of weights beside a base's.

    Args:
        weights: named tensors, on the CPU.
        base: named tensors, on the CPU.
        bits: 1 to 8 for each difference; ``EXACT`` keeps what differs as it is.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        known = base.get(name)
        if known is not None and torch.equal(tensor, known):
            continue
        if bits == EXACT or known is None or known.shape != tensor.shape or tensor.ndim < 2:
            kept[name] = tensor
            continue
        codes, step_R = quantise((tensor.float() - known.float()).flatten(1), bits)
        kept[f"{name}{CODES}{bits}"] = _pack(codes, bits)
        kept[f"{name}{STEP}"] = step_R
    return kept


def decode(kept: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``encode``, up to the precision of the differences: all weights that are not the base's.

    Raises:
        ValueError: the base is another one.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in kept.items():
        name, coded, bits = key.partition(CODES)
        if key.endswith(STEP):
            continue
        if not coded:
            weights[name] = tensor
            continue
        if name not in base:
            raise ValueError(f"the base has no {name}")
        known = base[name].cpu()
        codes = _unpack(tensor, int(bits), known.numel()).reshape(len(known), -1)
        step_R1 = kept[f"{name}{STEP}"].float()[:, None]
        weights[name] = (known.float() + (step_R1 * codes).reshape(known.shape)).to(known.dtype)
    return weights


def quantise(delta_RK: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Rows as a step times half-odd numbers: of 2 ** bits levels, symmetric about 0, the nearest.

    Returns:
        The levels' numbers, uint8 of shape (R, K) from 0 on; steps, float16 of shape (R,).
    """
    levels = 2**bits
    widest_R1 = delta_RK.abs().amax(1, keepdim=True) * 2 / levels
    best_R1 = torch.full_like(widest_R1, torch.inf)
    step_R1 = widest_R1
    for share in SHARES:
        # As it will be read.
        tried_R1 = (share * widest_R1).half().float()
        error_R1 = (tried_R1 * _half_odd(_nearest(delta_RK, tried_R1, levels), levels) - delta_RK).square().sum(1, True)
        step_R1 = torch.where(error_R1 < best_R1, tried_R1, step_R1)
        best_R1 = torch.minimum(error_R1, best_R1)
    return _nearest(delta_RK, step_R1, levels), step_R1[:, 0].half()


def _nearest(delta_RK: Tensor, step_R1: Tensor, levels: int) -> Tensor:
    # A row without any difference has step 0: it gets any level.
    return (torch.floor(delta_RK / step_R1.clamp(min=2**-24)) + levels // 2).clamp(0, levels - 1).to(torch.uint8)


def _half_odd(codes: Tensor, levels: int) -> Tensor:
    return codes.float() - (levels - 1) / 2


def _pack(codes: Tensor, bits: int) -> Tensor:
    """Whole numbers below 2 ** bits, end to end."""
    planes = np.unpackbits(codes.numpy().reshape(-1, 1), axis=1)[:, 8 - bits :]
    return torch.from_numpy(np.packbits(planes))


def _unpack(packed: Tensor, bits: int, n: int) -> Tensor:
    """The inverse, as half-odd numbers."""
    planes = np.unpackbits(packed.numpy(), count=n * bits).reshape(n, bits)
    filled = np.zeros((n, 8), dtype=np.uint8)
    filled[:, 8 - bits :] = planes
    return _half_odd(torch.from_numpy(np.packbits(filled, axis=1)[:, 0]), 2**bits)
