"""Features: vectors of numbers that some other network computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
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
    def of(cls, feature_NF: FloatArray, *, standardize: bool) -> Scale:
        """As ``measure``; or the one that leaves features as they are."""
        width = np.asarray(feature_NF).shape[1]
        return cls.measure(feature_NF) if standardize else cls((0.0,) * width, (1.0,) * width)

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
        try:
            feature_NF = np.asarray(raw, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"the networks take {self.wanted}; got what is no array of numbers: {error}") from None
        if feature_NF.ndim != 2 or feature_NF.shape[1] != self.width or len(feature_NF) == 0:
            raise InputError(f"the networks take {self.wanted}; got an array of shape {feature_NF.shape}")
        bad = np.flatnonzero(~np.isfinite(feature_NF).all(axis=1))
        if bad.size:
            raise InputError(
                f"the networks take {self.wanted}; {len(bad)} row(s) hold NaN or infinity, the first is row {bad[0]}"
            )
        return MemorySamples(torch.from_numpy(np.ascontiguousarray(feature_NF)))
