import pytest

from coterie.errors import DataError
from coterie.labels import LabelSpace, spelling


def test_names_by_index() -> None:
    labels = LabelSpace(("a", "b", "c"))
    assert len(labels) == 3
    assert labels.of([2, 0]) == ("c", "a")


def test_one_class_and_equal_names_are_refused() -> None:
    with pytest.raises(DataError, match="at least 2 classes; found 1"):
        LabelSpace(("a",))
    with pytest.raises(DataError, match=r"more than once: \['b'\]"):
        LabelSpace(("a", "b", "b"))


@pytest.mark.parametrize("other", ["cat\u200b", "\ufeffcat", "c\u00adat", "cat\u00a0"])
def test_names_that_differ_in_what_nobody_sees_are_spelled_alike(other: str) -> None:
    assert spelling(other) == spelling("cat")
    assert spelling("\U0001f468\u200d\U0001f469") != spelling("\U0001f468\U0001f469")


def test_a_name_means_the_class_that_is_spelled_like_it() -> None:
    labels = LabelSpace(("cat", "Dog", "dog"))
    assert [labels.meant(name) for name in ("CAT ", "Dog", "dog", "DOG", "gnu")] == ["cat", "Dog", "dog", "Dog", "gnu"]
    assert LabelSpace(("a", "b"), {"a": ("A",)}) == LabelSpace(("a", "b"))
