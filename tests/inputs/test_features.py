import math
from pathlib import Path

import hypothesis.extra.numpy as nps
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from coterie.errors import InputError
from coterie.inputs import (
    FeaturePreprocessing,
    Scale,
)


@given(nps.arrays(np.float32, (7, 3), elements=st.floats(-1000, 1000, width=16, allow_subnormal=False)))
def test_features_are_standardised_as_scikit_learn_does(feature_NF: np.ndarray) -> None:
    preprocessing = FeaturePreprocessing(Scale.measure(feature_NF))
    ours = preprocessing(preprocessing.samples(feature_NF).read(torch.arange(7))).numpy()
    scaler = StandardScaler().fit(feature_NF.astype(np.float64))
    # Where the spread is next to nothing, the two may differ in whether they call it nothing.
    clear_F = (scaler.var_ == 0) | (scaler.var_ > 1e-6 * np.square(scaler.mean_))
    theirs = scaler.transform(feature_NF.astype(np.float64))
    np.testing.assert_allclose(ours[:, clear_F], theirs[:, clear_F], atol=2e-3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 4)), r"3 features per sample.*got an array of shape \(2, 4\)"),
        (np.zeros((0, 3)), r"N at least 1; got an array of shape \(0, 3\)"),
        ([[1.0, math.nan, 2.0]], r"1 row holds NaN, infinity or what is beyond float32, the first is row 0"),
        ([[1.0, 1e300, 2.0]], "beyond float32"),
        (["abc"], "got list of str"),
        ([[1, 2, 3], [4]], "no array of numbers"),
        (None, "got NoneType"),
        (Path("a.npy"), "got PosixPath"),
        (np.ones((2, 3), complex), "an array of complex128"),
        (np.full((2, 3), "1", dtype=object), "an array of object"),
        (np.array([[None, 1, {}]]), "an array of object"),
        ([[10**400, 1, 2]], "no array of numbers"),
        (np.full((2, 3), "1"), "an array of <U1"),
        (np.ones((2, 3), "M8[s]"), r"an array of datetime64\[s\]"),
        (np.ma.masked_array(np.ones((2, 3))), "a masked array: fill it"),
    ],
)
def test_features_of_another_form_are_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeaturePreprocessing(Scale((0.5, 1e-9, -3.0), (1.0, 2.0, 1 / 3))).samples(raw)


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(">f8"),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(int),
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).bfloat16(),
        lambda x: pd.DataFrame(x),
        lambda x: x.tolist(),
    ],
)
def test_numbers_of_any_kind_and_order_of_bytes_are_the_same_features(of) -> None:
    feature_NF = np.arange(6.0).reshape(2, 3)
    samples = FeaturePreprocessing(Scale((0.0,) * 3, (1.0,) * 3)).samples(of(feature_NF))
    np.testing.assert_array_equal(samples.values_N.numpy(), feature_NF.astype(np.float32))


THREE = FeaturePreprocessing(Scale((0.0,) * 3, (1.0,) * 3))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.arange(6, dtype=">f8").reshape(2, 3),
        np.arange(6.0)[::-1].reshape(2, 3)[::-1, ::-1],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12.0).reshape(2, 6)[:, ::2],
        np.ma.masked_array(np.arange(6.0).reshape(2, 3)).data,
        torch.arange(6).reshape(2, 3),
        np.arange(6).reshape(2, 3).astype(object),
        [[True, False, 2], (3, 4.0, np.float16(5))],
    ],
)
def test_numbers_of_every_layout_and_type_are_the_same_features(array: object) -> None:
    expected = np.asarray(array).astype(np.float32)
    np.testing.assert_array_equal(THREE.samples(array).read(torch.arange(2)).numpy(), expected)


def test_a_value_that_is_infinite_once_standardised_is_named() -> None:
    preprocessing = FeaturePreprocessing(Scale((0.0, 0.0), (1.0, 1e-20)))
    with pytest.raises(InputError, match=r"feature 1 holds 1e\+30, which is too far from the training values"):
        preprocessing.samples([[1e30, 0.0], [0.0, -1e30]])
