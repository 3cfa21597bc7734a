"""What does bf16 do to networks on features of the users' own scale?

Question: a linear network was trained on standardised digits (scikit-learn's, 64 features), and the scale was folded
into its weights, so that it takes raw features: each with an offset and a unit of its own, as years and prices have.
For how many of the held-out half is it right in float32, in bf16, and in what `auto` takes? On a CPU that computes in
bf16. Five draws of offsets and units.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.shared import command, markdown_table, write_result
from coterie.config import HardwareSettings
from coterie.inputs import FeaturePreprocessing, Scale
from coterie.training.fabric import make_fabric
from coterie.training.passes import compute_logits

DRAWS = 5
LARGEST_OFFSET, UNITS = 3000.0, (0.1, 10.0)
# Of features that are the same in nearly all images.
LEAST_SPREAD = 0.5


def accuracies(draw: int) -> list[float]:
    """In percent: float32, bf16, auto."""
    features_NF, label_N = load_digits(return_X_y=True)
    rng = np.random.default_rng(draw)
    raw_NF = (features_NF + rng.uniform(0, LARGEST_OFFSET, 64)) * rng.uniform(*UNITS, 64)
    known = np.arange(len(label_N)) % 2 == 0
    mean_F, spread_F = raw_NF[known].mean(0), raw_NF[known].std(0) + LEAST_SPREAD
    fitted = LogisticRegression(max_iter=1000).fit((raw_NF[known] - mean_F) / spread_F, label_N[known])
    network = nn.Linear(64, 10)
    network.weight.data = torch.tensor(fitted.coef_ / spread_F, dtype=torch.float32)
    network.bias.data = torch.tensor(fitted.intercept_ - (fitted.coef_ / spread_F) @ mean_F, dtype=torch.float32)
    form = FeaturePreprocessing(Scale.of(raw_NF[known], standardize=False))
    samples, found = form.samples(raw_NF[~known].astype(np.float32)), []
    for precision in ("fp32", "bf16", "auto"):
        fabric = make_fabric(HardwareSettings(accelerator="cpu", precision=precision), form)
        logits_NC = compute_logits(fabric, network, samples, form)
        found.append(100 * float((logits_NC.argmax(1) == label_N[~known]).mean()))
    return found


def main() -> None:
    """Write the table."""
    rows = [[draw, *(f"{figure:.1f}" for figure in accuracies(draw))] for draw in range(DRAWS)]
    write_result(__file__, markdown_table(["draw", "float32, % right", "bf16", "auto"], rows))


if __name__ == "__main__":
    command(main)
