"""Features: vectors of numbers that some other network computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from coterie.arrays import FloatArray
from coterie.errors import InputError
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import MemorySamples
from coterie.vocabulary import Modality


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each of F features over the training samples."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def measure(cls, feature_NF: FloatArray) -> Scale:
        """Measure over all rows, in double precision; NaN and infinity are ignored."""
        values_NF = np.asarray(feature_NF, dtype=np.float64)
        there_NF = np.isfinite(values_NF)
        # A column without any value is divided by 1.
        count_F = np.maximum(there_NF.sum(axis=0), 1)
        mean_F = np.where(there_NF, values_NF, 0.0).sum(axis=0) / count_F
        spread_F = np.sqrt(np.where(there_NF, np.square(values_NF - mean_F), 0.0).sum(axis=0) / count_F)
        # What rounding leaves of a constant feature is no spread to divide by.
        constant_F = spread_F <= 1e-12 * np.abs(mean_F)
        return cls(tuple(mean_F.tolist()), tuple(np.where(constant_F, 1.0, spread_F).tolist()))

    def __call__(self, feature_NF: Tensor) -> Tensor:
        """Features with mean 0 and standard deviation 1."""
        mean_F = torch.tensor(self.mean, dtype=feature_NF.dtype, device=feature_NF.device)
        std_F = torch.tensor(self.std, dtype=feature_NF.dtype, device=feature_NF.device)
        return (feature_NF - mean_F) / std_F


@dataclass(frozen=True)
class FeaturePreprocessing(Preprocessing):
    """Standardises each of F features."""

    scale: Scale
    kind: Literal["features"] = "features"
    modality: ClassVar[Modality] = "features"

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
        feature_NF = _as_float32(raw, self.wanted)
        if feature_NF.ndim != 2 or feature_NF.shape[1] != self.width or len(feature_NF) == 0:
            raise InputError(f"the networks take {self.wanted}; got an array of shape {feature_NF.shape}")
        bad = np.flatnonzero(~np.isfinite(feature_NF).all(axis=1))
        if bad.size:
            raise InputError(
                f"the networks take {self.wanted}; {len(bad)} row(s) hold NaN or infinity, the first is row "
                f"{bad[0]} (float32 ends at 3.4e38)"
            )
        # The extremes of each feature stand for all of its values, which need not be standardised for this.
        extreme_2F = torch.from_numpy(np.stack([feature_NF.min(axis=0), feature_NF.max(axis=0)]))
        far_F = np.flatnonzero(~torch.isfinite(self.scale(extreme_2F)).all(dim=0).numpy())
        if far_F.size:
            value = np.abs(feature_NF[:, far_F[0]]).max()
            raise InputError(f"feature {far_F[0]} holds {value:g}, which is too far from the training values")
        return MemorySamples(torch.from_numpy(feature_NF))


def _as_float32(raw: Any, wanted: str) -> NDArray[np.float32]:
    """Numbers in the machine's byte order, one after the other in memory."""
    if np.ma.isMaskedArray(raw):
        raise InputError(
            f"the networks take {wanted}; got a masked array, whose mask they would not see: fill it first"
        )
    try:
        array = np.asarray(raw)
        # A frame with columns of several types is one of objects.
        if array.dtype.kind not in ("biufO" if array.size else "biufOUS"):
            raise InputError(f"the networks take {wanted}; got what is no array of numbers: {array.dtype}")
        with np.errstate(over="ignore"):  # what is infinite in float32 is refused as infinite
            return np.ascontiguousarray(array, dtype=np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"the networks take {wanted}; got what is no array of numbers: {error}") from None
