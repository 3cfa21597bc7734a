"""Features: vectors of numbers that some other network computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from coterie.arrays import FloatArray, native
from coterie.errors import InputError
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import MemorySamples
from coterie.system.units import how_many
from coterie.vocabulary import Modality

# In single precision, numbers end a little above this, and below one over it.
LARGEST = 1e37


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each of F features over the training samples."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        check_scale(self.mean, self.std)

    @classmethod
    def of(cls, feature_NF: FloatArray, *, standardize: bool) -> Scale:
        """As ``measure``; or the one that leaves features as they are."""
        width = np.asarray(feature_NF).shape[1]
        return cls.measure(feature_NF) if standardize else cls((0.0,) * width, (1.0,) * width)

    @classmethod
    def measure(cls, feature_NF: FloatArray) -> Scale:
        """Measure over all rows, in double precision; NaN, infinity and what networks do not take are ignored."""
        values_NF = np.asarray(feature_NF, dtype=np.float64)
        there_NF = np.abs(values_NF) < LARGEST
        values_NF = np.where(there_NF, values_NF, 0.0)
        # A column without any value is divided by 1.
        count_F = np.maximum(there_NF.sum(axis=0), 1)
        mean_F = values_NF.sum(axis=0) / count_F
        spread_F = np.sqrt(np.where(there_NF, np.square(values_NF - mean_F), 0.0).sum(axis=0) / count_F)
        # What rounding leaves of a constant feature is no spread to divide by.
        constant_F = spread_F <= 1e-12 * np.abs(mean_F)
        return cls(tuple(mean_F.tolist()), tuple(np.where(constant_F, 1.0, spread_F).tolist()))

    def __call__(self, feature_NF: Tensor) -> Tensor:
        """Features with mean 0 and standard deviation 1."""
        mean_F, std_F = (values_F.to(feature_NF.dtype).to(feature_NF.device) for values_F in self._tensors)
        return (feature_NF - mean_F) / std_F

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation; made once, since for wide features to make them takes longer than to use them."""
        with torch.inference_mode(False):  # what is made in that mode takes no part in a gradient
            return torch.tensor(self.mean, dtype=torch.float64), torch.tensor(self.std, dtype=torch.float64)


def check_scale(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a scale by which inputs would not be finite.

    Raises:
        InputError: not as many means as deviations; or one of them is NaN or too large, or a deviation too small, for
            single precision.
    """
    within = all(abs(value) < LARGEST for value in (*mean, *std)) and all(value > 1 / LARGEST for value in std)
    if len(mean) != len(std) or not within:
        raise InputError(
            f"a scale needs as many finite means as deviations above 0; got {len(mean)} means {_some(mean)} and "
            f"{len(std)} deviations {_some(std)}"
        )


def _some(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values[:8])}{', ...' if len(values) > 8 else ''})"


@dataclass(frozen=True)
class FeaturePreprocessing(Preprocessing):
    """Standardises each of F features."""

    scale: Scale
    kind: Literal["features"] = "features"
    modality: ClassVar[Modality] = "features"
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.scale.mean:
            raise InputError("features need a width of at least 1; got a scale of none")

    @property
    def width(self) -> int:
        """The number of features F."""
        return len(self.scale.mean)

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    @override
    def wanted(self) -> str:
        return f"{self.width} features per sample, finite numbers of shape (N, {self.width}), N at least 1"

    @override
    def __call__(self, batch: Tensor) -> Tensor:
        """float32 (B, F), standardised."""
        return self.scale(batch)

    @override
    def example(self) -> Tensor:
        return torch.randn((2, self.width), generator=torch.Generator().manual_seed(0))

    @override
    def samples(self, raw: Any) -> MemorySamples:
        """Numbers of shape (N, F)."""
        values_NF = as_numbers(raw, self.wanted)
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            feature_NF = values_NF.astype(np.float32)
        if feature_NF.ndim != 2 or feature_NF.shape[1] != self.width or len(feature_NF) == 0:
            raise InputError(f"the networks take {self.wanted}; got an array of shape {feature_NF.shape}")
        bad = np.flatnonzero(~np.isfinite(feature_NF).all(axis=1))
        if bad.size:
            raise InputError(
                f"the networks take {self.wanted}; {how_many(len(bad), 'row holds', 'rows hold')} NaN, infinity or "
                f"what is beyond float32, the first is row {bad[0]}"
            )
        # The extremes of each feature stand for all of its values, which need not be standardised for this.
        extreme_2F = torch.from_numpy(np.stack([feature_NF.min(axis=0), feature_NF.max(axis=0)]))
        far_F = np.flatnonzero(~torch.isfinite(self.scale(extreme_2F)).all(dim=0).numpy())
        if far_F.size:
            value = np.abs(feature_NF[:, far_F[0]]).max()
            raise InputError(f"feature {far_F[0]} holds {value:g}, which is too far from the training values")
        return MemorySamples(torch.from_numpy(np.ascontiguousarray(feature_NF)))


def as_numbers(raw: Any, wanted: str) -> NDArray[Any]:
    """An array of real numbers, in the machine's byte order.

    Raises:
        InputError: it is none, such as a masked or complex array, one of texts, or a path.
    """
    if isinstance(raw, np.ma.MaskedArray):
        raise InputError(f"the networks take {wanted}; got a masked array: fill it, or leave out what is masked")
    try:
        if isinstance(raw, Tensor):
            raw = (raw.float() if raw.dtype == torch.bfloat16 else raw).detach().cpu().numpy()
        values = np.asarray(raw)
        # A frame with columns of several types is one of objects.
        if values.dtype.kind == "O" and all(isinstance(value, Real | np.bool) for value in values.flat):
            values = values.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"the networks take {wanted}; got what is no array of numbers: {error}") from None
    if values.dtype.kind not in "biuf":
        got = f"an array of {values.dtype}" if isinstance(raw, np.ndarray) else _describe(raw)
        raise InputError(f"the networks take {wanted}; got {got}")
    return native(values)


def _describe(raw: Any) -> str:
    """What was passed in place of an array."""
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes) and len(raw):
        return f"{type(raw).__name__} of {type(raw[0]).__name__}"
    return type(raw).__name__
