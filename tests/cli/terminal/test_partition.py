import numpy as np
from rich.console import Console

from coterie.cli.terminal.partition import CLUSTERS_SHOWN, print_partition
from coterie.partition import Partition
from coterie.partition.quality import Quality
from coterie.studies.partition.labels import LabelData
from coterie.studies.partition.study import PartitionStudy, StudySettings


def test_the_largest_clusters_come_first(console: Console) -> None:
    sizes = range(1, 21)
    partition = Partition.from_assignment(np.repeat(np.arange(20), sizes))
    names = tuple(f"thing {k}" for k in range(partition.n_classes))
    data = LabelData("Made up.", np.eye(partition.n_classes), names)
    quality = Quality.of(partition, silhouette=0.25)
    print_partition(console, PartitionStudy(data, StudySettings(), partition, quality, None, ()))
    text = console.export_text(clear=False)
    assert "210 classes in 20 clusters of 1 to 20 classes" in text
    assert "silhouette" in text
    assert "0.250" in text
    rows = [line for line in text.splitlines() if "thing" in line]
    assert len(rows) == CLUSTERS_SHOWN
    assert "thing 190" in rows[0]  # the first of the largest
