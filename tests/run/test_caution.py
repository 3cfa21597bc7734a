from coterie.inputs import ImagePreprocessing
from coterie.run.caution import caution_on
from coterie.run.manifest import DataRecord

RECORD = DataRecord(about="Two.", classes=("a", "b"), input=ImagePreprocessing(6, 5, 1, (9.0,), (2.0,)))


def test_it_is_told_of_the_splits_that_it_concerns() -> None:
    assert caution_on(RECORD, "validation", "test") == ""
    seen = RECORD.model_copy(update={"perhaps_seen": ("validation",)})
    assert caution_on(seen, "test") == ""
    assert caution_on(seen, "validation", "test").startswith("Validation is cut from train, and the base came trained")


def test_more_than_a_tenth_of_test_in_validation_is_told() -> None:
    for number, said in ((10, ""), (11, "11 of 100 test samples are also in validation")):
        some = RECORD.model_copy(update={"sizes": (9, 100, 100), "n_in_validation": number})
        assert caution_on(some, "test").partition(",")[0] == said
        assert caution_on(some, "validation") == ""
