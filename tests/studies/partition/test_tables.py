import numpy as np

from coterie.partition import Partition
from coterie.partition.quality import Quality
from coterie.studies.partition.tables import quality_rows

PARTITION = Partition.from_assignment(np.arange(8) % 2)


def test_figures_that_are_not_known_have_no_row() -> None:
    assert quality_rows(Quality.of(PARTITION)) == []
    assert [row[:2] for row in quality_rows(Quality.of(PARTITION, silhouette=0.1234))] == [("silhouette", "0.123")]


def test_shares_gains_and_indices_have_their_units() -> None:
    quality = Quality.of(
        PARTITION, confusion_kept=0.5, confusion_kept_at_random=0.125, gain_forecast=0.0123, rand_index=1.0
    )
    rows = {
        title: (value.replace("\N{NO-BREAK SPACE}", " "), meaning) for title, value, meaning in quality_rows(quality)
    }
    assert rows["confusion kept inside"][0] == "50.0 %"
    assert "(random clusters of these sizes: 12.5" in rows["confusion kept inside"][1]
    assert rows["gain forecast"][0] == "+1.23"
    assert rows["adjusted Rand index"][0] == "1.000"
