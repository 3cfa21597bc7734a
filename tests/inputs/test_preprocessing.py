"""What every modality's preprocessing has in common."""

import pytest
import torch
from pydantic import TypeAdapter

from coterie.errors import InputError
from coterie.inputs import (
    AnyPreprocessing,
    FeaturePreprocessing,
    ImagePreprocessing,
    MemorySamples,
    NGramPreprocessing,
    Preprocessing,
    Scale,
    SentencePreprocessing,
    TablePreprocessing,
)

EVERY_KIND: list[Preprocessing] = [
    ImagePreprocessing(6, 5, 1, (100.0,), (50.0,)),
    FeaturePreprocessing(Scale((0.5, 1e-9, -3.0), (1.0, 2.0, 1 / 3))),
    NGramPreprocessing(64, 8),
    SentencePreprocessing("minilm", Scale((0.0, 1.0), (1.0, 2.0))),
    TablePreprocessing(("size", "day"), Scale((3.0, 1.0), (2.0, 1.0)), ("colour",), (("blue", "red"),)),
]


@pytest.mark.parametrize("preprocessing", EVERY_KIND, ids=lambda preprocessing: preprocessing.kind)
def test_a_preprocessing_comes_back_from_plain_values(preprocessing: Preprocessing) -> None:
    adapter = TypeAdapter(AnyPreprocessing)
    assert adapter.validate_json(adapter.dump_json(preprocessing)) == preprocessing


@pytest.mark.parametrize("preprocessing", EVERY_KIND, ids=lambda preprocessing: preprocessing.kind)
def test_an_example_is_two_inputs_always_the_same(preprocessing: Preprocessing) -> None:
    assert len(preprocessing.example()) == 2
    assert torch.equal(preprocessing.example(), preprocessing.example())


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"the networks take 3 features.*got samples of shape \(2,\)"):
        EVERY_KIND[1].check(MemorySamples(torch.zeros(4, 2)))
