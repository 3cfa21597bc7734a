"""What a network is given: samples of any modality, and how they become its input; a modality a file."""

from typing import Annotated, TypeAlias

from pydantic import Field

from coterie.inputs.features import FeaturePreprocessing, Scale
from coterie.inputs.image import ImagePreprocessing
from coterie.inputs.preprocessing import Preprocessing
from coterie.inputs.samples import DescribedSamples, MemorySamples, RaggedSamples, Samples
from coterie.inputs.table import TablePreprocessing
from coterie.inputs.text import NGramPreprocessing, SentencePreprocessing
from coterie.inputs.tokens import TokenPreprocessing

AnyPreprocessing: TypeAlias = Annotated[
    ImagePreprocessing
    | FeaturePreprocessing
    | NGramPreprocessing
    | SentencePreprocessing
    | TablePreprocessing
    | TokenPreprocessing,
    Field(discriminator="kind"),
]
"""As a manifest holds it: ``kind`` tells which."""

__all__ = [
    "AnyPreprocessing",
    "DescribedSamples",
    "FeaturePreprocessing",
    "ImagePreprocessing",
    "MemorySamples",
    "NGramPreprocessing",
    "Preprocessing",
    "RaggedSamples",
    "Samples",
    "Scale",
    "SentencePreprocessing",
    "TablePreprocessing",
    "TokenPreprocessing",
]
