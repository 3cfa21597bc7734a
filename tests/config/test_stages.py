import pytest

from coterie.config import PartitionSettings, SpecialistSettings
from coterie.errors import SettingsError


def test_one_number_of_clusters_may_be_given_plainly() -> None:
    assert PartitionSettings(clusters=4).clusters == (4,)


def test_given_groups_and_their_method_need_each_other() -> None:
    assert PartitionSettings(method="given", groups="g.txt").groups == "g.txt"
    for values in ({"method": "given"}, {"groups": "g.txt"}):
        with pytest.raises(SettingsError, match=r"groups = .*: method given needs groups"):
            PartitionSettings(**values)


def test_a_column_of_groups_needs_its_name() -> None:
    with pytest.raises(SettingsError, match="groups = 'column:': column: needs the column's name"):
        PartitionSettings(method="given", groups="column:")


@pytest.mark.parametrize(("views", "epochs", "kept"), [(4, 15, 4), (4, 3, 3), (0, 3, 0)])
def test_there_are_no_more_views_than_epochs(views: int, epochs: int, kept: int) -> None:
    assert SpecialistSettings(views=views, epochs=epochs).kept_views == kept
