"""A language model's folder as fine-tuning leaves it, made here: no weights and no vocabulary come from anywhere."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("apple", "pear", "oak", "elm")
FILLING = ("this", "is", "some", "number", "an", "a", *map(str, range(10)))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MOST_TOKENS = 12


def make_tokenizer(cls_type: int = 0, **values: Any) -> transformers.PreTrainedTokenizerFast:
    """Of whole words, framed as BERT's; the first token has the type ``cls_type``."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *FILLING, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"[CLS]:{cls_type} $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{**special, "model_max_length": MOST_TOKENS, **values}
    )


def make_config(names: tuple[str, ...], **values: Any) -> transformers.BertConfig:
    """Of a BERT of two layers that takes ``MOST_TOKENS``; ``names`` in the order of its outputs."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.BertConfig(
        **sizes,
        initializer_range=0.2,  # so that it learns in a moment
        hidden_dropout_prob=0.0,
        vocab_size=len(SPECIAL) + len(FILLING) + len(WORDS),
        max_position_embeddings=MOST_TOKENS,
        id2label=dict(enumerate(names)),
        label2id={name: k for k, name in enumerate(names)},
        **values,
    )


def text_about(word: str, number: int) -> str:
    """A thousand texts with a word."""
    first, second, third = f"{number:03}"
    return f"{first} {word} {second} is {third}"


def fine_tuned(folder: Path, words: tuple[str, ...], names: tuple[str, ...] | None = None, **values: Any) -> Path:
    """A BERT that tells which word a text has, ``words[k]`` for its output k, and its tokenizer."""
    torch.manual_seed(0)
    model, tokenizer = (
        transformers.BertForSequenceClassification(make_config(names or words, **values)),
        make_tokenizer(),
    )
    texts = [text_about(word, number) for word in words for number in range(0, 1000, 62)]
    label_N = torch.arange(len(words)).repeat_interleave(len(texts) // len(words))
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(**inputs).logits, label_N)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
