"""What a few trained specialists, the pilot, tell of all others. Arrays only."""

from __future__ import annotations

import numpy as np

from coterie.arrays import FloatArray, IntArray
from coterie.partition import Partition
from coterie.routing.evaluation import Outputs
from coterie.routing.fitting import Combination
from coterie.routing.forecast import BasePredictions, Outlook, Skill, likeliest_cluster
from coterie.routing.gate import make_folds
from coterie.routing.trials import try_all
from coterie.vocabulary import ForecastRule

# Of the specialists' training, at most, where a cluster is that small.
PILOT_SHARE = 0.1
# Specialists of one base differ in skill beyond what their validation samples explain.
BETWEEN_CLUSTERS = 0.05
# With fewer samples in its clusters a rule cannot be fitted and judged, and the pilot tells nothing.
LEAST_SAMPLES = 20


def pilot_clusters(partition: Partition, open_S: FloatArray, train_count_C: IntArray) -> tuple[int, ...]:
    """The clusters whose specialists are trained first: those with the most errors open to them, as many as take no
    more than ``PILOT_SHARE`` of the training; at least one.

    Args:
        partition: whose clusters they are.
        open_S: errors open to each cluster's specialist, see ``Outlook.change``; 0 for a cluster without one.
        train_count_C: training samples of each class.

    Returns:
        Clusters; none where no specialist has an error open to it.
    """
    share_S = partition.mass_NS(train_count_C[None, :].astype(np.float64))[0]
    share_S = share_S / share_S.sum()
    candidates = np.flatnonzero((open_S > 0) & (partition.size_S > 1))
    if candidates.size == 0:
        return ()
    chosen: list[int] = []
    for cluster in candidates[np.argsort(-open_S[candidates], kind="stable")].tolist():
        if share_S[[*chosen, cluster]].sum() <= PILOT_SHARE:
            chosen.append(cluster)
    return tuple(chosen) or (int(candidates[share_S[candidates].argmin()]),)


def open_share(answers: BasePredictions, partition: Partition) -> float:
    """Of the samples that the base gets wrong, the share whose true class lies in the likeliest cluster: the others
    cannot be put right by its specialist. 1 where nothing is wrong.
    """
    held_N = partition.holds(likeliest_cluster(answers, partition), answers.label_N)
    return float(held_N[~answers.right_N].mean()) if not answers.right_N.all() else 1.0


def open_errors(answers: BasePredictions, partition: Partition, rule: ForecastRule) -> FloatArray:
    """Errors open to each cluster's specialist, each weighted by how much smaller its task is; of shape (S,)."""
    open_N = Outlook.of(answers, partition).change(answers, rule)[1]
    return np.bincount(likeliest_cluster(answers, partition), open_N, partition.n_clusters).astype(np.float64)


def measured_skill(
    outputs: Outputs, partition: Partition, clusters: tuple[int, ...], rule: ForecastRule, prior: Skill
) -> Skill:
    """The skill of a base's specialists, from those of some clusters: what they put right of the errors open to them,
    net, by cross-fitting, and what is known of other bases, each by how sure it is.

    Args:
        outputs: on validation samples; columns of clusters without a trained specialist are not read.
        partition: the clusters.
        clusters: that have a trained specialist.
        rule: how a specialist's answer is used.
        prior: of specialists of any base.
    """
    answers = BasePredictions(outputs.base_NC, outputs.label_N)
    row_R = np.flatnonzero(np.isin(likeliest_cluster(answers, partition), clusters))
    if row_R.size < LEAST_SAMPLES:
        return prior
    own = answers.take(row_R)
    certain_R, open_R = Outlook.of(own, partition).change(own, rule)
    if not open_R.any():
        return prior
    combination = Combination(rule)
    # The clusters' own samples alone: of the others the specialists are not there.
    trial = try_all([combination], outputs.take(row_R), partition, make_folds(len(row_R), 0))[combination]
    change_R = trial.routed_correct_N.astype(np.float64) - trial.base_correct_N - certain_R
    measured = float(change_R.sum() / open_R.sum())
    # A sample that changes is a step of +1 or -1. One is counted where none changes, which may be chance.
    variance = max(1.0, float((change_R**2).sum())) / float(open_R.sum()) ** 2 + BETWEEN_CLUSTERS**2
    weight = prior.spread**2 / (prior.spread**2 + variance)
    spread = np.sqrt(1 / (1 / prior.spread**2 + 1 / variance))
    return Skill(weight * measured + (1 - weight) * prior.mean, float(spread), measured=True)
