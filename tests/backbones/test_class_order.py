"""The classes of a trained base in the order of the data's."""

import numpy as np
import pytest

from coterie.backbones.class_order import matched, refuse_other_order
from coterie.errors import BackboneError


def test_names_are_matched_where_that_is_one_to_one() -> None:
    assert matched(["Red fox", "cafe\u0301"], ["red_fox", "caf\u00e9", "x"]) == {
        "Red fox": "red_fox",
        "cafe\u0301": "caf\u00e9",
    }
    assert matched(["a b", "a-b"], ["A_B"]) == {}
    assert matched(["a b"], ["A_B", "a-b"]) == {}
    assert matched(["a", "A"], ["A", "a"]) == {"a": "a", "A": "A"}


def test_a_bad_base_is_not_taken_for_one_in_another_order() -> None:
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 50, 1000)
    refuse_other_order(rng.normal(size=(1000, 50)), label_N)
    right = np.where(rng.random(1000) < 0.3, label_N, rng.integers(0, 50, 1000))
    refuse_other_order(np.eye(50)[right], label_N)
    with pytest.raises(BackboneError, match="another order"):
        refuse_other_order(np.eye(50)[(right + 1) % 50], label_N)
