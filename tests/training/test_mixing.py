import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from coterie.config import TrainingSettings
from coterie.training.mixing import mix

IMAGES = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 8).contiguous()
LABELS = torch.arange(6)


def test_without_it_a_batch_and_its_loss_stay_what_they_are() -> None:
    inputs, loss = mix(IMAGES, LABELS, TrainingSettings(), F.cross_entropy)
    assert inputs is IMAGES
    assert loss is F.cross_entropy
    texts = torch.arange(6).view(6, 1)
    assert mix(texts, LABELS, TrainingSettings(mixup=1), F.cross_entropy)[0] is texts


@pytest.mark.parametrize("values", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1.0, "cutmix": 1.0}])
def test_the_loss_weighs_labels_as_the_images_are_weighed(values: dict[str, float]) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, loss = mix(IMAGES, LABELS, TrainingSettings(**values), F.cross_entropy)
        # A loss that is linear in the label tells the weights: logits of k say k, the mean of an image its mixture.
        means_B = mixed.mean((1, 2, 3))
        assert means_B.mean() == pytest.approx(2.5)

        def label_mean(_: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
            return label_B.double()

        weighed = mix_labels(values, seed, label_mean)
        torch.testing.assert_close(weighed.float(), means_B, atol=1e-4, rtol=0)
        assert torch.isfinite(loss(torch.randn(6, 6), LABELS))


def mix_labels(values, seed, loss):
    torch.manual_seed(seed)
    _, both = mix(IMAGES, LABELS, TrainingSettings(**values), loss)
    return both(torch.zeros(6, 6), LABELS)


def test_the_same_seed_mixes_alike() -> None:
    first, second = (mixed_with_seed(3), mixed_with_seed(3))
    assert torch.equal(first, second)
    assert not torch.equal(first, mixed_with_seed(4))


def mixed_with_seed(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return mix(IMAGES, LABELS, TrainingSettings(mixup=1.0, cutmix=1.0), F.cross_entropy)[0]
