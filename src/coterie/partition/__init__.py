"""From label embeddings to clusters of classes. Arrays only: nothing here imports a network.

Each method is a function from arrays to a Partition; ``make_partition`` calls them by name.
"""

from coterie.partition.agglomerative import agglomerative_partition
from coterie.partition.balanced import balanced_partition
from coterie.partition.confusion import confusion_counts, confusion_partition
from coterie.partition.cover import check_overlap, join_confused
from coterie.partition.given import given_partition, random_partition
from coterie.partition.kmeans import kmeans_partition
from coterie.partition.leiden import leiden_partition
from coterie.partition.methods import METHODS, PartitionRequest, make_partition
from coterie.partition.spectral import scalable_spectral_partition, spectral_embedding, spectral_partition
from coterie.partition.value import Partition, check_n_clusters

__all__ = [
    "METHODS",
    "Partition",
    "PartitionRequest",
    "agglomerative_partition",
    "balanced_partition",
    "check_n_clusters",
    "check_overlap",
    "confusion_counts",
    "confusion_partition",
    "given_partition",
    "join_confused",
    "kmeans_partition",
    "leiden_partition",
    "make_partition",
    "random_partition",
    "scalable_spectral_partition",
    "spectral_embedding",
    "spectral_partition",
]
