"""A run on a hub, pushed to and fetched from a stand-in for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import yaml

import coterie
from coterie.cli import main
from coterie.errors import ArtifactError, InputError, SettingsError
from coterie.run.folder import Run
from coterie.run.hub import KEPT_BACK, card_of, local_run, push_run
from helpers import FIXTURES, rewrite_manifest
from hub_server import TOKEN, Hub, running_hub

RUN = FIXTURES / "runs" / "whole-on-features"
NAME = "me/features"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that nobody else uses, its user logged in, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with running_hub() as hub:
        # Which its constants hold from HF_ENDPOINT when they are imported.
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture
def pushed(hub: Hub) -> Hub:
    push_run(RUN, NAME)
    return hub


def refusal(name: str) -> str:
    with pytest.raises(ArtifactError) as caught:
        local_run(f"hub:{name}")
    return str(caught.value)


def test_a_pushed_run_is_loaded_from_the_hub_and_answers_as_before(hub: Hub) -> None:
    features = np.random.default_rng(0).normal(size=(20, coterie.load(RUN).preprocessing.width)).astype(np.float32)
    assert coterie.load(RUN).push_to_hub(NAME) == f"{hub.endpoint}/{NAME}"
    np.testing.assert_array_equal(
        coterie.load(f"hub:{NAME}").predict_proba(features), coterie.load(RUN).predict_proba(features)
    )


def test_what_shows_samples_stays_behind(pushed: Hub) -> None:
    there = pushed.repositories[NAME].commits[pushed.repositories[NAME].head]
    own = set(Run.open(RUN).manifest.files)
    assert own & set(KEPT_BACK)
    assert set(there) == (own - set(KEPT_BACK)) | {"manifest.json", "README.md"}
    assert set(json.loads(there["manifest.json"])["files"]) == own - set(KEPT_BACK)


def test_nothing_is_pushed_that_the_manifest_does_not_name(hub: Hub, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    for stray in ("checkpoint/base.pt", "logits/stages/test/base.safetensors", "controls/data.csv"):
        (run / stray).parent.mkdir(parents=True, exist_ok=True)
        (run / stray).write_text("stray")
    push_run(run, NAME)
    assert b"stray" not in hub.repositories[NAME].commits[hub.repositories[NAME].head].values()


def test_only_what_the_manifest_names_is_fetched(pushed: Hub) -> None:
    pushed.repositories[NAME].commit({"modeling.py": b"raise SystemExit", "data/train.csv": b"a"})
    folder = local_run(f"hub:{NAME}")
    assert set(pushed.fetched()) == {*Run.open(folder).manifest.files, "manifest.json"}
    assert not (folder / "modeling.py").exists()


def test_a_commit_is_fetched_once_and_pinned_by_its_number(pushed: Hub) -> None:
    first = local_run(f"hub:{NAME}")
    n_fetched = len(pushed.fetched())
    assert local_run(f"hub:{NAME}") == first
    assert len(pushed.fetched()) == n_fetched
    pushed.repositories[NAME].commit({"history.json": b"{}"})
    pushed.repositories.pop(NAME)
    assert local_run(f"hub:{NAME}@{first.name}") == first


def test_a_fetch_that_was_cut_short_goes_on(pushed: Hub) -> None:
    folder = local_run(f"hub:{NAME}")
    (folder / "base.safetensors").unlink()
    assert local_run(f"hub:{NAME}") == folder
    assert (folder / "base.safetensors").exists()


def test_without_a_network_the_commit_that_was_fetched_last_is_taken(
    pushed: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = local_run(f"hub:{NAME}")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    notes: list[str] = []
    assert local_run(f"hub:{NAME}", notes.append) == folder
    assert notes == [
        f"http://127.0.0.1:9 cannot be reached: of hub:{NAME}, what was fetched last is taken, {folder.name}"
    ]
    assert "http://127.0.0.1:9 cannot be reached for me/other: " in refusal("me/other")
    assert "cannot be reached" in refusal(f"{NAME}@main")


def test_a_name_that_is_not_there_or_private_is_refused_in_one_sentence(
    pushed: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed.repositories[NAME].private = True
    local_run(f"hub:{NAME}")
    why = f"{pushed.endpoint} has no {{}}, or shows it to some alone: log in by `hf auth login`, or set HF_TOKEN"
    assert refusal("me/nothing") == why.format("me/nothing")
    monkeypatch.delenv("HF_TOKEN")
    assert refusal(NAME) == why.format(NAME)


def test_a_revision_that_is_not_there_is_named(pushed: Hub) -> None:
    assert refusal(f"{NAME}@v2") == f"hub:{NAME}@v2: there is no such revision"


@pytest.mark.parametrize("name", ["a/b/c", "../../etc", "a b", "", "a/..", "--x"])
def test_a_name_that_no_hub_has_is_refused(hub: Hub, name: str) -> None:
    with pytest.raises(SettingsError, match=r"no name on a hub: "):
        local_run(f"hub:{name}")
    assert not hub.requests


def test_pushing_needs_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ArtifactError, match=r"\(status 401\): it wants a token that may do this: .*HF_TOKEN"):
        push_run(RUN, NAME)


def test_a_damaged_run_is_not_pushed(hub: Hub, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    content = bytearray((run / "base.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "base.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"base.safetensors: its bytes have changed"):
        push_run(run, NAME)
    assert not hub.requests


def test_what_is_no_run_and_what_lacks_files_is_refused_before_it_is_fetched(pushed: Hub) -> None:
    repository = pushed.repositories[NAME]
    files = repository.commits[repository.head]
    pushed.repositories["me/empty"] = other = type(repository)()
    other.commit({"README.md": b"nothing"})
    assert refusal("me/empty") == "hub:me/empty is not a coterie run: it has no manifest.json"
    other.commit({"manifest.json": b" " * (2**25 + 1)})
    assert "its manifest.json has 33,554,433 bytes; at most 33,554,432" in refusal("me/empty")
    other.commit({**files, "base.safetensors": b"short"})
    assert "hub:me/empty is damaged: base.safetensors: 5 bytes instead of" in refusal("me/empty")
    other.commits[other.commit(files)].pop("base.safetensors")
    assert "hub:me/empty is damaged: base.safetensors: missing" in refusal("me/empty")
    assert set(pushed.fetched()) == {"manifest.json"}


def test_a_fetched_run_is_a_strangers(hub: Hub, tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    values = json.loads((run / "manifest.json").read_text())
    rewrite_manifest(run, settings={**values["settings"], "backbone": "evil:network"})
    push_run(run, NAME)
    with pytest.raises(ArtifactError, match="evil:network"):
        coterie.load(f"hub:{NAME}")
    # A file that is not what the manifest says is found when it is read, as in any folder.
    repository = hub.repositories[NAME]
    content = bytearray(repository.commits[repository.head]["base.safetensors"])
    content[-1] ^= 1
    push_run(RUN, NAME)
    repository.commit({"base.safetensors": bytes(content)})
    with pytest.raises(ArtifactError, match=r"base.safetensors: its bytes have changed"):
        coterie.load(f"hub:{NAME}")


def test_an_ensemble_of_no_run_is_not_pushed(hub: Hub) -> None:
    ensemble = coterie.load(RUN)
    ensemble.push = None
    with pytest.raises(InputError, match="loaded of a run"):
        ensemble.push_to_hub(NAME)


def test_the_command_pushes_and_others_take_what_it_pushed(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(RUN), NAME, "--private"]) == 0
    assert capsys.readouterr().out == f"{hub.endpoint}/{NAME}\n"
    assert hub.repositories[NAME].private
    assert main(["evaluate", f"hub:{NAME}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_samples"] > 0
    assert main(["info", f"hub:{NAME}"]) == 0
    assert main(["info", "hub:me/other"]) == 1
    assert "error: http" in capsys.readouterr().err


def test_the_card_shows_the_figures_of_the_report() -> None:
    run = Run.open_complete(RUN)
    card = card_of(run, NAME)
    head, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(head)["pipeline_tag"] == "tabular-classification"
    test = run.read_json("metrics.json")["test"]
    for share in (test["base_top1"], test["ensemble_top1"], test["router_accuracy"]):
        assert f"{100 * share:.2f}\N{NO-BREAK SPACE}%" in text
    assert f"coterie predict hub:{NAME} INPUT" in text
    for title in ("Intended use", "Figures", "Clusters", "Costs", "What it must not be used for"):
        assert f"\n## {title}\n" in text
    assert all(name in text for name in run.manifest.data.classes)
    assert "\n\n\n" not in text


def test_names_in_a_card_are_text(tmp_path: Path) -> None:
    run = shutil.copytree(RUN, tmp_path / "run")
    values = json.loads((run / "manifest.json").read_text())
    names = values["data"]["classes"]
    names[0] = "<script>|`a`\n# b"
    rewrite_manifest(run, data={**values["data"], "classes": names})
    card = card_of(Run.open_complete(run), NAME)
    assert r"\<script\>\|\`a\` \# b" in card
    assert "<script" not in card.replace(r"\<script", "")


def test_a_commit_that_leads_out_of_the_cache_is_refused(pushed: Hub) -> None:
    repository = pushed.repositories[NAME]
    repository.commits["../../elsewhere"] = repository.commits[repository.head]
    assert "names a commit of me/features that is none: '../../elsewhere'" in refusal(NAME)
    assert not pushed.fetched()
