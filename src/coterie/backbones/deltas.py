"""A specialist's weights as differences from the base's, in few bits each (as Liu et al. 2024, arXiv 2402.10193).

A specialist starts from the base and ends near it: its matrices are kept as the base's plus a step times small whole
numbers, of which frequent ones take fewer bits (Huffman 1952). What has no like among the base's weights, and vectors,
which weigh little, are kept in 16 bits. Of a matrix that was trained by an adapter the two small ones are kept whose
product is the difference.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from coterie.config.stages import EXACT_BITS, FEWEST_BITS, MOST_BITS

# Of a tensor NAME, NAME:codes holds the coded whole numbers, and NAME:step what they are multiplied by, one a row.
CODES, STEP = ":codes", ":step"
# The difference of a matrix NAME that has an adapter is NAME:up @ NAME:down.
UP, DOWN = ":up", ":down"
# Without its partner, a tensor means nothing.
PARTNERS = {STEP: CODES, DOWN: UP}
# Whole numbers lie within this of 0, to fit a byte.
LARGEST = 127
# The step is sought up to this many of a matrix's root mean squares, in so many halvings of the interval; with moments
# once more, up to so many times the one that was found.
COARSEST, HALVINGS = 64.0, 14
COARSER, HALVINGS_COARSER = 4.0, 6
# The smallest float16 above 0: a smaller step would be stored as 0.
SMALLEST = 2.0**-24
# Of the moments' mean diagonal, added to all of it, so that they can be inverted.
DAMPING = 0.01
# Of a matrix that are rounded before those after them are changed, all at once.
COLUMNS = 64
# The step is sought with about so many rows of a matrix, and then a few times with all, until so few bits are left.
ROWS_TRIED, ALL_TRIED, FEW_LEFT = 64, 5, 0.01
# What is kept in 16 bits is nowhere further off, relative to itself or to the mean.
HALF_ERROR = 1e-3
TINY = float(np.finfo(np.float32).tiny)
NO_MOMENTS: Mapping[str, Tensor] = MappingProxyType({})
# What decompresses DEFLATE without a header; its Huffman codes alone, for there is nothing repeated to be found.
RAW_DEFLATE, MEMORY = -15, 9


def encode(
    weights: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    bits: float,
    moments: Mapping[str, Tensor] = NO_MOMENTS,
) -> dict[str, Tensor]:
    """The tensors to store for weights, given those of the base.

    Args:
        weights: named tensors, on the CPU.
        base: named tensors, on the CPU.
        bits: average bits per difference, 1.2 to 8; ``EXACT_BITS`` stores tensors that differ as they are.
        moments: of what some of the matrices are multiplied with (see ``input_moments``), by which they are rounded.
    """
    kept: dict[str, Tensor] = {}
    coded: list[str] = []
    for name, tensor in weights.items():
        known = base.get(name)
        # A frozen layer costs nothing: decode leaves it to the base.
        if known is not None and torch.equal(tensor, known):
            continue
        # Vectors are a small share of all weights: to code them would save next to nothing. A head has fewer rows than
        # the base's, and no like there.
        if bits == EXACT_BITS:
            kept[name] = tensor
        elif known is None or known.shape != tensor.shape or tensor.ndim < 2:
            kept[name] = _halved(tensor)
        else:
            coded.append(name)
    for name, share in _shared_out(bits, coded, weights, base, moments).items():
        codes, step_R = quantise(_difference(weights[name], base[name]), share, moments.get(name))
        kept[f"{name}{CODES}"] = _as_tensor(codes)
        kept[f"{name}{STEP}"] = step_R
    return kept


def _difference(tensor: Tensor, known: Tensor) -> Tensor:
    return (tensor.float() - known.float()).flatten(1)


def _halved(tensor: Tensor) -> Tensor:
    """In 16 bits, where this changes nothing to speak of."""
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    near = torch.allclose(half.float(), tensor, rtol=HALF_ERROR, atol=HALF_ERROR * float(tensor.abs().mean()))
    return half if near else tensor


def _shared_out(
    bits: float,
    names: Sequence[str],
    weights: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
) -> dict[str, float]:
    """The bits of each matrix, ``bits`` on average over all numbers: such that a further one for any number would make
    the same difference, relative to what its layer answers (reverse water-filling: Cover and Thomas 2006, "Elements of
    Information Theory", 10.3.3). So small matrices get many, and those that training has changed most.
    """
    if not names:
        return {}
    size_M = np.array([weights[name].numel() for name in names])
    changed_M = np.array([_answered(_difference(weights[name], base[name]), moments.get(name)) for name in names])
    whole_M = np.array([_answered(weights[name].float().flatten(1), moments.get(name)) for name in names])
    # Of weights that are not finite, as of a training that diverged, no bits make anything.
    with np.errstate(invalid="ignore"):
        need_M = np.nan_to_num(np.log2((changed_M + TINY) / (whole_M + TINY) / size_M) / 2)

    def shares(level: float) -> np.ndarray:
        return np.clip(need_M - level, FEWEST_BITS, MOST_BITS)

    # The average falls in a straight line between the levels at which a matrix comes to an end of what is allowed.
    level_L = np.sort(np.concatenate((need_M - MOST_BITS, need_M - FEWEST_BITS)))
    average_L = np.array([shares(level) @ size_M for level in level_L]) / size_M.sum()
    level = float(np.interp(-bits, -average_L, level_L))
    return dict(zip(names, shares(level).tolist(), strict=True))


def _answered(matrix_RK: Tensor, moment_KK: Tensor | None) -> float:
    """The sum of squares of what a matrix answers, over the inputs of the moments; without them, of its numbers."""
    return float(((matrix_RK if moment_KK is None else matrix_RK @ moment_KK) * matrix_RK).sum())


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
            weights[key] = tensor.float() if tensor.dtype == torch.float16 else tensor
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


def quantise(delta_RK: Tensor, bits: float, moment_KK: Tensor | None = None) -> tuple[bytes, Tensor]:
    """A matrix as a step times whole numbers: the finest step with which the coded numbers take at most ``bits`` each.

    Args:
        delta_RK: the matrix.
        bits: more than 1.
        moment_KK: second moments of what it is multiplied with. With them, what rounding a column changes in the
            products is made up for in the columns after it (Frantar et al. 2023, "GPTQ", arXiv 2210.17323).

    Returns:
        The coded numbers; the step, of each row, float16 of shape (R,).
    """
    spread = float(delta_RK.square().mean().sqrt().clamp(min=SMALLEST))
    # Not so fine that a number would leave its byte.
    finest = float(delta_RK.abs().max()) / (LARGEST - 1)
    step, best = _finest(delta_RK, bits, max(finest, 1e-3 * spread), COARSEST * spread, HALVINGS, _rounded)
    if moment_KK is None:
        return best
    # Such numbers are spread more, so the step is a coarser one.
    other = _finest(delta_RK, bits, step, step * COARSER, HALVINGS_COARSER, _Compensated(moment_KK), best)[1]
    # Where few bits make it far coarser, more is lost than made up for.
    return min(best, other, key=lambda found: _changed(delta_RK, found, moment_KK))


def _changed(delta_RK: Tensor, found: tuple[bytes, Tensor], moment_KK: Tensor) -> float:
    """How much rounding changes what the matrix answers: the sum of squares over the inputs of the moments."""
    coded, step_R = found
    codes_RK = _uncoded(_as_tensor(coded), delta_RK.numel()).view_as(delta_RK)
    return _answered(step_R.float()[:, None] * codes_RK - delta_RK, moment_KK)


def _finest(
    delta_RK: Tensor,
    bits: float,
    low: float,
    high: float,
    halvings: int,
    rounded: Callable[[Tensor, float], Tensor],
    otherwise: tuple[bytes, Tensor] | None = None,
) -> tuple[float, tuple[bytes, Tensor]]:
    """The finest step from ``low`` to ``high`` that suffices, and what it gives; ``otherwise`` where none does."""
    # The coded length falls as the step grows: bisection, on a logarithmic scale, for steps span several powers of ten.
    some_RK, finest, coarsest = delta_RK[:: max(1, len(delta_RK) // ROWS_TRIED)], low, high
    for _ in range(halvings):
        between = (low * high) ** 0.5
        if _left(_coded(some_RK, between, rounded), bits, some_RK) < 0:
            low = between
        else:
            high = between
    step, best = high, None
    too_long: tuple[float, float] | None = None
    fits: tuple[float, float] | None = None
    for _ in range(ALL_TRIED):
        found = _coded(delta_RK, step, rounded)
        left = _left(found, bits, delta_RK)
        if left >= 0:
            best, fits = (step, found), (math.log2(step), left)
        else:
            too_long = math.log2(step), left
        if 0 <= left < FEW_LEFT:
            break
        if too_long and fits:
            aim = np.interp(FEW_LEFT / 2, (too_long[1], fits[1]), (too_long[0], fits[0]))
            other = float(2**aim)
        else:
            # A step that is twice as fine takes at most a bit more; one twice as coarse saves a quarter at least.
            other = min(max(finest, step * 2 ** (-left if left > 0 else -4 * left)), coarsest)
        if other == step:  # at an end, where trying again would give the same
            break
        step = other
    # With the coarsest almost all numbers are 0 and take a bit each, which any allowed number of bits suffices for.
    return best or (coarsest, otherwise or _coded(delta_RK, coarsest, rounded))


def _left(found: tuple[bytes, Tensor], bits: float, delta_RK: Tensor) -> float:
    """Bits of each number that are allowed and not needed."""
    return bits - 8 * len(found[0]) / delta_RK.numel()


def _coded(delta_RK: Tensor, step: float, rounded: Callable[[Tensor, float], Tensor]) -> tuple[bytes, Tensor]:
    step_R = torch.full((len(delta_RK),), max(step, SMALLEST)).half()  # as it will be read
    codes_RK = rounded(delta_RK, float(step_R[0])).clamp(-LARGEST, LARGEST).to(torch.int8)
    coder = zlib.compressobj(9, zlib.DEFLATED, RAW_DEFLATE, MEMORY, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(codes_RK.numpy().tobytes()) + coder.flush(), step_R


def _rounded(delta_RK: Tensor, step: float) -> Tensor:
    return (delta_RK / step).round()


class _Compensated:
    """Rounds column by column; what that changes in the products is taken from the columns still to come."""

    def __init__(self, moment_KK: Tensor) -> None:
        damped_KK = moment_KK.double()
        damped_KK.diagonal().add_(DAMPING * damped_KK.diagonal().mean() + SMALLEST)
        # Columns that weigh most come first, while there are many to make up for them.
        self.order_K = damped_KK.diagonal().argsort(descending=True, stable=True)
        ordered_KK = damped_KK[self.order_K][:, self.order_K]
        inverse_KK = torch.cholesky_inverse(torch.linalg.cholesky(ordered_KK))
        self.factor_KK = torch.linalg.cholesky(inverse_KK, upper=True).float()

    def __call__(self, delta_RK: Tensor, step: float) -> Tensor:
        # Transposed, so that a column of the matrix lies in one piece.
        left_KR, factor_KK, share_K = delta_RK.T[self.order_K], self.factor_KK, self.factor_KK.diagonal().tolist()
        codes_KR = torch.empty_like(left_KR)
        for start in range(0, len(left_KR), COLUMNS):
            # Within a block column by column; the columns after it get the changes of all of it at once.
            block = slice(start, start + COLUMNS)
            block_BR, factor_BB = left_KR[block], factor_KK[block, block]
            change_BR = torch.empty_like(block_BR)
            for place, (value_R, change_R) in enumerate(zip(block_BR, change_BR, strict=True)):
                code_R = torch.div(value_R, step, out=codes_KR[start + place]).round_()
                torch.sub(value_R, code_R, alpha=step, out=change_R).div_(share_K[start + place])
                block_BR[place + 1 :].addr_(factor_BB[place, place + 1 :], change_R, alpha=-1)
            left_KR[start + COLUMNS :] -= factor_KK[block, start + COLUMNS :].T @ change_BR
        return codes_KR[self.order_K.argsort()].T


def _as_tensor(coded: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(coded, np.uint8).copy())


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
