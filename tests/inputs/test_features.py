import math

import hypothesis.extra.numpy as nps
import numpy as np
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
        ([[1.0, math.nan, 2.0]], r"1 row\(s\) hold NaN or infinity, the first is row 0"),
        (["abc"], "no array of numbers"),
    ],
)
def test_features_of_another_form_are_refused(raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeaturePreprocessing(Scale((0.5, 1e-9, -3.0), (1.0, 2.0, 1 / 3))).samples(raw)
