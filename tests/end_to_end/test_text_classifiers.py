"""Sequence classifiers of transformers on texts, from a folder as fine-tuning leaves it to every command."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs the extra `transformers`")

import coterie  # noqa: E402 - language.py needs transformers
from coterie.backbones import trained_part  # noqa: E402
from coterie.backbones.base import make_base, preprocessing_of_base  # noqa: E402
from coterie.backbones.text_classifier import TextClassifier  # noqa: E402
from coterie.cli import main  # noqa: E402
from coterie.config import FitSettings  # noqa: E402
from coterie.engine import choose  # noqa: E402
from coterie.errors import ArtifactError, BackboneError, SettingsError  # noqa: E402
from coterie.inputs import TokenPreprocessing  # noqa: E402
from coterie.labels import LabelSpace  # noqa: E402
from coterie.run import load as artifact  # noqa: E402
from coterie.run.folder import Run  # noqa: E402
from coterie.run.reporting import read_reports  # noqa: E402
from language import MOST_TOKENS, WORDS, fine_tuned, make_config, make_tokenizer, text_about  # noqa: E402

FAST = ["--specialist.epochs", "2", "--specialist.batch-size", "8", "--specialist.optimizer", "adamw"]
FAST += ["--specialist.learning-rate", "0.01", "--partition.clusters", "2", "--workers", "1"]
FAST += ["--hardware.accelerator", "cpu", "--hardware.threads", "1", "--hardware.precision", "fp32"]
THEIRS = tuple(reversed(WORDS))  # the order in which the model has its classes
LONG = "this is some apple" + " number" * 20


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(choose, "auto_workers", lambda *_: 1)  # workers take seconds to start
        yield


def write_texts(file: Path, *words: str, n: int = 30, seed: int = 0) -> Path:
    """A csv file with a column that is neither text nor label; each eighth text has the word of another class."""
    random = np.random.default_rng(seed)
    rows = [(k, word) for k in range(n) for word in words]
    said = [random.choice([w for w in WORDS if w != word]) if random.random() < 0.125 else word for _, word in rows]
    texts = [text_about(word, number) for word, number in zip(said, random.permutation(1000), strict=False)]
    frame = {"id": range(len(rows)), "text": texts, "topic": [word for _, word in rows]}
    pd.DataFrame(frame).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fine_tuned(tmp_path_factory.mktemp("model") / "mine", THEIRS)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of a model whose folder is no longer there."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(model, folder / "gone")
    source = write_texts(folder / "all.csv", *WORDS)
    options = ["--base", f"transformers:{folder / 'gone'}", "--data.source", f"csv:{source}", "--data.label", "topic"]
    assert main(["fit", *options, "--specialist.trainable", "last-2", *FAST, "--out", str(folder / "run")]) == 0
    shutil.rmtree(folder / "gone")
    return Run.open_complete(folder / "run")


def settings_of(place: Path, **values: object) -> FitSettings:
    return FitSettings.from_values({"backbone": f"transformers:{place}", **values})


def form_of(place: Path, **values: object) -> TokenPreprocessing:
    form = preprocessing_of_base(settings_of(place, data=values))
    assert isinstance(form, TokenPreprocessing)
    return form


def test_the_base_says_what_the_model_says_in_the_datas_order_and_is_not_trained(run: Run, model: Path) -> None:
    ensemble = coterie.load(run.path)
    texts = ["1 apple 2 is 3", "oak 3", LONG]
    theirs = transformers.BertForSequenceClassification.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    with torch.no_grad():  # each alone, so that nothing is padded
        said = [theirs(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0] for text in texts]
    assert ensemble.labels.names == tuple(sorted(WORDS))
    order = [THEIRS.index(name) for name in ensemble.labels.names]
    ours = ensemble.decide(texts).base_logits_NC
    np.testing.assert_allclose(ours, torch.stack(said).numpy()[:, order], atol=1e-4)
    assert run.manifest.seconds["base.safetensors"] == 0
    assert "base" not in run.read_json("history.json")
    assert read_reports(run)["test"].base_top1 > 0.7


def test_specialists_train_their_part_alone(run: Run) -> None:
    names = [name for name in run.manifest.files if name.startswith("specialists/")]
    moved = {key for name in names for key in run.read_tensors(name)}
    assert "network.classifier.weight" in moved
    assert not any("embeddings" in key or "encoder" in key for key in moved)


def test_the_tokenizer_travels_with_the_run(run: Run, model: Path, tmp_path: Path) -> None:
    form = artifact.preprocessing_of(run)
    assert form == form_of(model)
    assert form.samples(["an oak"]).read(torch.tensor([0])).tolist() == [make_tokenizer()("an oak").input_ids]
    assert "tokenizer" not in run.manifest.model_dump()["data"]["input"]
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"is damaged: tokenizer\.json"):
        coterie.load(tmp_path / "copy")


def test_texts_of_a_file_are_classified(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["1 pear 2 is 3", "4 elm 0 is 0", LONG]
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    pd.DataFrame({"id": ["a", "b", "c"], "text": texts}).to_csv(tmp_path / "rows.csv", index=False)
    expected = [coterie.load(run.path).labels.names[k] for k in coterie.load(run.path).predict(texts)]
    assert expected[:2] == ["pear", "elm"]
    for name in ("lines.txt", "rows.csv"):
        assert main(["predict", str(run.path), str(tmp_path / name), "--format", "jsonl"]) == 0
        printed = capsys.readouterr()
        answers = [json.loads(line) for line in printed.out.splitlines()]
        assert [(answer["text"], answer["predicted"]) for answer in answers] == list(zip(texts, expected, strict=True))
        assert printed.err == f"too long, and cut: {LONG[:60]}...\n"
    pd.DataFrame({"id": ["a"], "body": texts[:1]}).to_csv(tmp_path / "rows.csv", index=False)
    assert main(["predict", str(run.path), str(tmp_path / "rows.csv")]) == 1
    assert "has no column 'text' of texts; columns: id, body" in capsys.readouterr().err


def test_a_run_is_evaluated_compared_and_looked_at_without_the_models_folder(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_texts(tmp_path / "other.csv", *WORDS[:3], n=20, seed=5)
    assert main(["evaluate", str(run.path), "--source", f"csv:{source}", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["n_samples"] == 60
    assert "has no test split: all of its 60 samples are judged (--split)" in printed.err
    source = write_texts(tmp_path / "whole.csv", *WORDS, n=20, seed=5)
    assert main(["evaluate", str(run.path), "--source", f"csv:{source}", "--split", "test", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] == 16
    assert main(["headroom", str(run.path), "--out", str(tmp_path / "h"), "--clusters", "2"]) == 0
    shutil.copytree(run.path, tmp_path / "run")
    assert main(["compare", str(tmp_path / "run"), "--allow-shared"]) == 0
    values = Run.open(tmp_path / "run").read_json("comparison.json")
    names = {row["name"] for row in values["rows"]}
    assert {"base", "specialists", "all-class copy", "weight average", "random clusters"} <= names
    assert not any(name.startswith("deep ensemble") for name in names)  # how the base was trained is not known
    assert any(note.startswith("The base came trained") for note in values["notes"])


def test_a_specialist_is_trained_again_with_further_texts(run: Run, tmp_path: Path) -> None:
    partition = artifact.partition_of(run.manifest)
    cluster = int(np.argmax(partition.size_S))
    words = artifact.labels_of(run.manifest).of(partition.classes(cluster).tolist())
    source = write_texts(tmp_path / "more.csv", *words, n=10, seed=7)
    options = ["--cluster", str(cluster), "--source", f"csv:{source}", "--out", str(tmp_path / "new")]
    assert main(["refit", str(run.path), *options]) == 0
    new = Run.open_complete(tmp_path / "new")
    assert sum(new.manifest.train_counts) > sum(run.manifest.train_counts)
    assert new.read("base.safetensors") == run.read("base.safetensors")
    assert coterie.load(new.path).predict(["this is an oak"]).shape == (1,)


def test_a_class_is_added(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"number number {k % 10} number {k}" for k in range(30)]
    pd.DataFrame({"id": range(30), "text": texts, "topic": "amount"}).to_csv(tmp_path / "amounts.csv", index=False)
    options = ["--source", f"csv:{tmp_path / 'amounts.csv'}", "--out", str(tmp_path / "new")]
    assert main(["add-class", str(run.path), "amount", *options]) == 0
    old, new = coterie.load(run.path), coterie.load(tmp_path / "new")
    assert new.labels.names == (*old.labels.names, "amount")
    assert (new.predict(texts) == len(WORDS)).mean() > 0.5
    some = ["this is an apple", "elm 3", LONG]
    ours, theirs = new.decide(some).base_logits_NC, old.decide(some).base_logits_NC
    np.testing.assert_allclose(ours[:, : len(WORDS)], theirs, atol=1e-5)
    # Data that has the class counts it first, for its name.
    write_texts(tmp_path / "all.csv", *WORDS, n=20)
    frames = [pd.read_csv(tmp_path / name) for name in ("all.csv", "amounts.csv")]
    pd.concat(frames).to_csv(tmp_path / "both.csv", index=False)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "new"), "--source", f"csv:{tmp_path / 'both.csv'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["base_top1"] > 0.6
    assert main(["compare", str(tmp_path / "new")]) == 1
    assert "was made of" in capsys.readouterr().err


def test_what_specialists_could_bring_is_known_before_one_is_trained(
    run: Run, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = run.path.parent / "all.csv", tmp_path / "run"
    options = ["--base", f"transformers:{model}", "--data.source", f"csv:{source}", "--data.label", "topic", *FAST]
    options += ["--specialist.trainable", "head", "--out", str(out)]
    assert main(["fit", *options, "--base-only"]) == 0
    assert f"coterie headroom {out} --out DIR" in capsys.readouterr().out
    assert not Run.open(out).manifest.complete
    assert not any(name.startswith("specialists") for name in Run.open(out).manifest.files)
    assert main(["headroom", str(out), "--out", str(tmp_path / "headroom"), "--clusters", "2"]) == 0
    assert main(["fit", *options]) == 0
    whole = Run.open_complete(out)
    assert whole.read("base.safetensors") == run.read("base.safetensors")
    assert coterie.load(out).cut == "network.bert.pooler"  # run once for a text, whoever is asked
    ensemble, texts = coterie.load(out), ["oak", "1 pear 2 is 3", LONG]
    together = ensemble.outputs(ensemble.preprocessing.samples(texts), np.zeros(3, np.int64)).packed_NM
    for row, text in enumerate(texts):
        alone = ensemble.outputs(ensemble.preprocessing.samples([text]), np.zeros(1, np.int64)).packed_NM
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)


# --- what makes the inputs -----------------------------------------------------------------------------------------


def test_padding_and_the_neighbours_of_a_text_do_not_matter(model: Path) -> None:
    form = form_of(model)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 32, "num_labels": 3}
    torch.manual_seed(0)
    causal = transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**sizes))
    ours = make_base(settings_of(model), LabelSpace(WORDS), form).network
    samples = form.samples(["oak", "this is some pear number 3"])
    for network in (ours, TextClassifier(causal.eval(), form.padding)):
        with torch.no_grad():
            together, alone = (
                network(samples.read(torch.tensor([0, 1])))[0],
                network(samples.read(torch.tensor([0])))[0],
            )
        torch.testing.assert_close(together, alone)


def test_the_example_runs_without_padding_and_differs(model: Path) -> None:
    form = form_of(model)
    first, second = form.example()
    assert int(form.example().min()) >= 0
    assert not torch.equal(first, second)
    assert torch.equal(form.example(), form.example())


def test_the_fewest_of_what_is_asked_for_and_what_the_model_takes_is_kept(model: Path, tmp_path: Path) -> None:
    assert form_of(model).longest == MOST_TOKENS
    assert form_of(model, longest=5).longest == 5
    shutil.copytree(model, tmp_path / "model")
    make_tokenizer(model_max_length=10**30, truncation_side="left").save_pretrained(tmp_path / "model")
    form = form_of(tmp_path / "model")
    assert form.longest == MOST_TOKENS - 1  # some families count positions from behind the padding's number
    assert (
        form.samples(["this is " + "some " * 20 + "oak"]).read(torch.tensor([0]))[0, -2]
        == make_tokenizer().vocab["oak"]
    )
    with pytest.raises(BackboneError, match=r"of 2 tokens a text, the tokenizer of .* takes 2 for itself"):
        form_of(model, longest=2)


def test_a_padding_beyond_the_positions_takes_none_of_them(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    tokenizer = make_tokenizer(model_max_length=10**30)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    positions = tokenizer.pad_token_id = tokenizer.vocab["oak"]
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    assert form_of(tmp_path / "model").longest == positions


def test_a_trunk_is_shared_only_where_it_gives_the_same_for_texts_of_any_length(model: Path) -> None:
    form = form_of(model)
    base = make_base(settings_of(model), LabelSpace(WORDS), form)
    cuts = {"head": "network.bert.pooler", "last-2": None, "network.bert.encoder.layer.1": None}
    for trainable, cut in cuts.items():
        assert trained_part(base.network, base.head, form.example(), trainable).cut == cut


# --- models that are refused ---------------------------------------------------------------------------------------


def test_the_classes_of_model_and_data_are_matched_by_name_or_refused(model: Path) -> None:
    form = form_of(model)
    assert make_base(settings_of(model), LabelSpace(tuple(sorted(WORDS))), form).form.reordered
    with pytest.raises(BackboneError, match="only the network has oak; only the data has ash"):
        make_base(settings_of(model), LabelSpace(("apple", "ash", "elm", "pear")), form)
    with pytest.raises(BackboneError, match=r"gives 4 classes.*the data has 5 classes"):
        make_base(settings_of(model), LabelSpace((*WORDS, "ash")), form)


def test_an_order_that_nobody_named_is_found_out(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = fine_tuned(tmp_path / "model", THEIRS, names=tuple(f"LABEL_{k}" for k in range(4)))
    options = ["--data.source", f"csv:{run.path.parent / 'all.csv'}", "--data.label", "topic", *FAST]
    assert main(["fit", "--base", f"transformers:{place}", *options, "--out", str(tmp_path / "run")]) == 1
    assert "they are in another order than the data's" in " ".join(capsys.readouterr().err.split())


def test_a_configuration_without_weights_is_a_base_to_train_and_a_body_without_a_head_is_none(tmp_path: Path) -> None:
    make_tokenizer().save_pretrained(tmp_path)
    make_config(WORDS).save_pretrained(tmp_path)
    assert not make_base(settings_of(tmp_path), LabelSpace(WORDS), form_of(tmp_path)).trained
    transformers.BertModel(make_config(WORDS)).save_pretrained(tmp_path)
    with pytest.raises(
        BackboneError, match=r"no weights for classifier.bias, classifier.weight: it was not trained as"
    ):
        make_base(settings_of(tmp_path), LabelSpace(WORDS), form_of(tmp_path))


def test_code_that_a_folder_names_is_not_run(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text("raise RuntimeError('was run')")
    for name, value in (
        ("config.json", {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Tokenizer", None]}),
    ):
        values = json.loads((tmp_path / "model" / name).read_text())
        (tmp_path / "model" / name).write_text(json.dumps({**values, "auto_map": value}))
    form = form_of(tmp_path / "model")
    assert form == form_of(model)
    network = make_base(settings_of(tmp_path / "model"), LabelSpace(WORDS), form).network
    assert type(network.network).__module__.startswith("transformers.")


def test_tokenizers_that_do_not_do_are_named(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    make_tokenizer(cls_type=2).save_pretrained(tmp_path / "model")
    with pytest.raises(BackboneError, match="gives its tokens types, as bert needs them"):
        form_of(tmp_path / "model")
    for file in (tmp_path / "model").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BackboneError, match=r"has no tokenizer that a run could keep|transformers cannot load"):
        form_of(tmp_path / "model")
    with pytest.raises(SettingsError, match=r"data\.text_as = 'minilm': transformers:.* takes tokens of its own"):
        form_of(model, text_as="minilm")
    with pytest.raises(BackboneError, match="transformers cannot load"):
        form_of(tmp_path / "nowhere")


def test_other_backbones_do_not_take_tokens_and_have_no_form_of_their_own(model: Path) -> None:
    assert preprocessing_of_base(FitSettings()) is None
    values = {"backbone": "ngram-8"}
    with pytest.raises(BackboneError, match=r"'ngram-8' is not one for tokens of texts; allowed: transformers:DIR"):
        make_base(FitSettings.from_values(values), LabelSpace(WORDS), form_of(model))
