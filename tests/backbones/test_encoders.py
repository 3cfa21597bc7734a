"""Encoders of transformers without a head become text classifiers; folders as people have them."""

import json
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")

from coterie.backbones.base import make_base, preprocessing_of_base, rebuild_base  # noqa: E402
from coterie.backbones.libraries import load_transformers  # noqa: E402
from coterie.backbones.text_classifier import SentenceClassifier  # noqa: E402
from coterie.config import FitSettings  # noqa: E402
from coterie.errors import BackboneError  # noqa: E402
from coterie.labels import LabelSpace  # noqa: E402
from language import WORDS, fine_tuned, make_config, make_tokenizer  # noqa: E402

LABELS = LabelSpace(("a", "b", "c"))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder of sentence-transformers, in small."""
    folder = tmp_path / "encoder"
    torch.manual_seed(0)
    transformers.BertModel(make_config(WORDS)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def settings_of(folder: Path, **values: object) -> FitSettings:
    return FitSettings.from_values({"backbone": f"transformers:{folder}", **values})


def started(folder: Path, init: str = "pretrained"):
    settings = settings_of(folder, init=init)
    form = preprocessing_of_base(settings)
    return make_base(settings, LABELS, form), form


def test_a_sentence_encoder_gets_a_head_on_the_mean_of_its_tokens(encoder: Path) -> None:
    base, form = started(encoder)
    assert isinstance(base.network.network, SentenceClassifier)
    assert (base.head.path, base.form.pooling, base.trained) == ("network.head", "mean", False)
    assert base.form.origin == f"initial weights: those of {encoder}; the head is new, on the mean of a text's vectors"
    token_BL = form.samples(["apple 1", "this is some pear 3"]).read(torch.arange(2))
    theirs = transformers.BertModel.from_pretrained(encoder).eval()
    vectors = [theirs(tokens[tokens >= 0][None]).last_hidden_state[0].mean(0) for tokens in token_BL]
    torch.testing.assert_close(base.network.eval()(token_BL), base.network.network.head(torch.stack(vectors)))


def test_it_is_built_again_without_its_folder(encoder: Path) -> None:
    base, form = started(encoder)
    rebuilt, head = rebuild_base(settings_of(encoder), base.form, base.head, 3, form, None, None, 10**6)
    rebuilt.load_state_dict(base.network.state_dict())
    torch.testing.assert_close(rebuilt.eval()(form.example()), base.network.eval()(form.example()))
    assert head == base.head


def test_weights_of_the_encoder_alone_fit_into_it(encoder: Path, tmp_path: Path) -> None:
    state = {name: tensor + 1 for name, tensor in transformers.BertModel(make_config(WORDS)).state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    base, _ = started(encoder, str(tmp_path / "w.pt"))
    name = "embeddings.word_embeddings.weight"
    torch.testing.assert_close(base.network.network.encoder.state_dict()[name], state[name])
    assert "the head is new, for there is none in it; left out: pooler.dense" in base.form.origin


def test_an_encoder_of_no_such_folder_gets_its_librarys_head(encoder: Path) -> None:
    (encoder / "modules.json").unlink()
    base, _ = started(encoder)
    assert base.head.path == "network.classifier"
    assert base.form.origin.endswith("; new: classifier.bias, classifier.weight")
    form = preprocessing_of_base(settings_of(encoder))
    with pytest.raises(BackboneError, match=r"was not trained as a classifier yet; --init pretrained trains it as one"):
        make_base(settings_of(encoder), LABELS, form)


def test_a_classifier_of_other_classes_gets_a_new_head(tmp_path: Path) -> None:
    base, _ = started(fine_tuned(tmp_path / "model", WORDS))
    assert base.head.out_features == 3
    assert "new: classifier.bias, classifier.weight" in base.form.origin
    assert base.form.transformers["id2label"] == {0: "a", 1: "b", 2: "c"}


def test_pickled_weights_of_a_folder_are_read_and_not_trained_from_scratch(tmp_path: Path) -> None:
    folder = fine_tuned(tmp_path / "model", WORDS)
    form = preprocessing_of_base(settings_of(folder))
    before, _ = load_transformers(str(folder), form)
    torch.save(before.network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    after, trained = load_transformers(str(folder), form)
    assert trained
    torch.testing.assert_close(after.eval()(form.example()), before.eval()(form.example()))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft's own
def test_an_adapter_is_merged_where_its_model_is_at_hand(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `lora`")
    folder = fine_tuned(tmp_path / "model", WORDS)
    form = preprocessing_of_base(settings_of(folder))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "adapter" / name).write_bytes((folder / name).read_bytes())
    network, trained = load_transformers(str(tmp_path / "adapter"), form)
    assert trained
    example = form.example()
    theirs = adapted.eval()(input_ids=example).logits
    torch.testing.assert_close(network.eval()(example), theirs, rtol=1e-4, atol=1e-4)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/model"
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"holds an adapter of somebody/model and not the model: merge them"):
        load_transformers(str(tmp_path / "adapter"), form)
