"""A specialist's weights as differences from the base's, in few bits each (as Liu et al. 2024, arXiv 2402.10193).

A specialist starts from the base and ends near it: its matrices are kept as the base's plus a step per row times small
whole numbers, of which frequent ones take fewer bits (Huffman 1952). What has no like among the base's weights, and
vectors, which weigh nothing, are kept as they are. Of a matrix that was trained by an adapter the two small ones are
kept whose product is the difference.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from coterie.config import EXACT_BITS

# Of a tensor NAME, NAME:codes holds the coded whole numbers, and NAME:step what they are multiplied by, one a row.
CODES, STEP = ":codes", ":step"
# The difference of a matrix NAME that has an adapter is NAME:up @ NAME:down.
UP, DOWN = ":up", ":down"
# Without its partner, a tensor means nothing.
PARTNERS = {STEP: CODES, DOWN: UP}
# Whole numbers lie within this of 0, to fit a byte.
LARGEST = 127
# The step is sought up to this many of a row's root mean squares, in so many halvings of the interval.
COARSEST, HALVINGS = 64.0, 14
# What decompresses DEFLATE without a header; its Huffman codes alone, for there is nothing repeated to be found.
RAW_DEFLATE, MEMORY = -15, 9


def encode(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], bits: float) -> dict[str, Tensor]:
    """The tensors to store for weights, given those of the base.

    Args:
        weights: named tensors, on the CPU.
        base: named tensors, on the CPU.
        bits: average bits per difference, more than 1; ``EXACT_BITS`` stores tensors that differ as they are.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        known = base.get(name)
        # A frozen layer costs nothing: decode leaves it to the base.
        if known is not None and torch.equal(tensor, known):
            continue
        # Vectors are a small share of all weights: to round them would save next to nothing. A head has fewer rows than
        # the base's, and no like there.
        if bits == EXACT_BITS or known is None or known.shape != tensor.shape or tensor.ndim < 2:
            kept[name] = tensor
            continue
        coded, step_R = quantise((tensor.float() - known.float()).flatten(1), bits)
        kept[f"{name}{CODES}"] = torch.from_numpy(np.frombuffer(coded, np.uint8).copy())
        kept[f"{name}{STEP}"] = step_R
    return kept


def decode(kept: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights that differ from the base's: the inverse of ``encode``, up to the precision of the differences.

    Raises:
        ValueError: the base is another one, or the codes are damaged.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in kept.items():
        name, mark, kind = key.rpartition(":")
        if f"{mark}{kind}" in PARTNERS:
            if f"{name}{PARTNERS[mark + kind]}" not in kept:
                raise ValueError(f"{key} stands alone")
        elif f"{mark}{kind}" in PARTNERS.values():
            known = _like(base, name)
            delta = _product(kept, name, known) if mark + kind == UP else _steps(kept, name, known)
            weights[name] = (known.float() + delta.view(known.shape)).to(known.dtype)
        else:
            weights[key] = tensor
    return weights


def _like(base: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in base or base[name].ndim < 2:
        raise ValueError(f"the base has no {name}")
    return base[name].cpu()


def _product(kept: Mapping[str, Tensor], name: str, known: Tensor) -> Tensor:
    up, down = kept[f"{name}{UP}"], kept.get(f"{name}{DOWN}", torch.empty(0))
    sides = (len(known), known.numel() // max(len(known), 1))
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != len(down) or (len(up), down.shape[1]) != sides:
        raise ValueError(f"the adapter of {name} has shapes {tuple(up.shape)} and {tuple(down.shape)}")
    return up.float() @ down.float()


def _steps(kept: Mapping[str, Tensor], name: str, known: Tensor) -> Tensor:
    coded, step_R = kept[f"{name}{CODES}"], kept.get(f"{name}{STEP}", torch.empty(0))
    if coded.dtype != torch.uint8 or step_R.shape != (len(known),) or not step_R.is_floating_point():
        raise ValueError(f"the coded differences of {name} have steps of shape {tuple(step_R.shape)}")
    return step_R.float()[:, None] * _uncoded(coded, known.numel()).view(len(known), -1)


def quantise(delta_RK: Tensor, bits: float) -> tuple[bytes, Tensor]:
    """Rows as a step times whole numbers: the finest steps, each the same share of its row's root mean square, with
    which the coded numbers take at most ``bits`` each.

    Returns:
        The coded numbers of all rows; steps, float16 of shape (R,).
    """
    # Steps in proportion to a row's own spread, so that rows that moved little are rounded no more than others.
    square_R = delta_RK.square().mean(dim=1).sqrt()
    # Not so fine that a number would leave its byte.
    finest = float((delta_RK.abs().amax(dim=1) / square_R.clamp(min=2**-24)).max()) / (LARGEST - 1)
    # The coded length falls as the step grows: bisection, on a logarithmic scale, for steps span several powers of ten.
    low, high = max(finest, 1e-3), COARSEST
    # With so coarse a step almost all numbers are 0 and take a bit each, which any allowed number of bits suffices for.
    best = _at(delta_RK, square_R * high)
    for _ in range(HALVINGS):
        share = (low * high) ** 0.5
        found = _at(delta_RK, square_R * share)
        if 8 * len(found[0]) > bits * delta_RK.numel():
            low = share
        else:
            high, best = share, found
    return best


def _at(delta_RK: Tensor, step_R: Tensor) -> tuple[bytes, Tensor]:
    # 2**-24 is the smallest float16 above 0: a smaller step would be stored as 0.
    half_R = step_R.half()  # as it will be read
    step_R1 = half_R.float().clamp(min=2**-24)[:, None]  # a row without any difference has step 0
    codes_RK = (delta_RK / step_R1).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    coder = zlib.compressobj(9, zlib.DEFLATED, RAW_DEFLATE, MEMORY, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(codes_RK.numpy().tobytes()) + coder.flush(), half_R


def _uncoded(coded: Tensor, n: int) -> Tensor:
    """So many whole numbers, as float32."""
    reader = zlib.decompressobj(RAW_DEFLATE)
    try:
        # One more than is wanted, so that too many are noticed and a damaged file cannot fill the memory.
        found = reader.decompress(coded.numpy().tobytes(), n + 1)
    except zlib.error as error:
        raise ValueError(f"the coded differences cannot be read: {error}") from None
    if len(found) != n or not reader.eof:
        raise ValueError(f"the base has {n} weights where there are codes of others")
    return torch.from_numpy(np.frombuffer(found, np.int8).astype(np.float32))
