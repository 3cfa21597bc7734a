import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")

from coterie.backbones.text_classifier import TextClassifier  # noqa: E402
from coterie.errors import InputError  # noqa: E402
from language import WORDS, make_config  # noqa: E402


def test_tokens_become_ids_and_a_mask_and_the_padding_is_the_networks_too() -> None:
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification(make_config(WORDS)).eval()
    ours = TextClassifier(theirs, padding=1)
    assert theirs.config.pad_token_id == 1
    token_BL = torch.tensor([[2, 5, 6, 3], [2, 7, 3, -1]])
    expected = theirs(
        input_ids=torch.tensor([[2, 5, 6, 3], [2, 7, 3, 1]]),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    ).logits
    torch.testing.assert_close(ours(token_BL), expected)
    alone = theirs(input_ids=torch.tensor([[2, 7, 3]])).logits
    torch.testing.assert_close(ours(token_BL)[1:], alone)


def test_a_token_that_the_network_does_not_know_is_named() -> None:
    ours = TextClassifier(transformers.BertForSequenceClassification(make_config(WORDS)).eval(), padding=1)
    most = int(ours.n_tokens)
    ours(torch.tensor([[2, most - 1, 3]]))
    with pytest.raises(InputError, match=f"has the token {most}; the network knows those below {most}"):
        ours(torch.tensor([[2, most, 3]]))
