"""What a network is given: samples of any modality, and how they become its input; a modality a file."""

from typing import TypeAlias

from coterie.inputs.image import ImagePreprocessing
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import MemorySamples, Samples

AnyPreprocessing: TypeAlias = ImagePreprocessing

__all__ = ["AnyPreprocessing", "ImagePreprocessing", "MemorySamples", "Preprocessing", "Samples"]
