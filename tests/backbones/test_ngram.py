import torch

from coterie.backbones import build
from coterie.inputs import (
    NGramPreprocessing,
)


def test_padding_and_the_neighbours_of_a_text_do_not_matter() -> None:
    network = build("ngram-8", 3, NGramPreprocessing(64, 16), seed=0).eval()
    short, long = torch.tensor([[1, 2, -1, -1]]), torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(network(torch.cat([short, long]))[0], network(short[:, :2])[0])
    nothing = network(torch.tensor([[-1]]))
    assert torch.isfinite(nothing).all()
