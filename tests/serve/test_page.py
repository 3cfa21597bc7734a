"""The server's page, in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from coterie.run.load import load_ensemble
from helpers import FIXTURES
from serving import picture, serving, vector

RUNS = FIXTURES / "runs"
# As wide as a small phone, in pixels.
PHONE = {"width": 360, "height": 740, "pixelRatio": 2.0}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A phone's screen; it keeps a log of all that it asks for."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for switch in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
    ):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": PHONE})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()


def result_of(browser: Any) -> str:
    """What the page shows, once it has an answer or an error."""

    def found(_: Any) -> Any:
        return browser.find_element(By.ID, "result").text or browser.find_element(By.ID, "error").text

    return WebDriverWait(browser, 30).until(found)


def classify(browser: Any, value: str) -> None:
    """Type a value, and send it."""
    box = browser.find_element(By.ID, "value")
    box.clear()
    box.send_keys(value)
    browser.find_element(By.TAG_NAME, "button").click()


def asked(browser: Any) -> set[str]:
    """The addresses that the browser asked for, since it was last looked."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return {url for url in sent if not url.startswith(("data:", "blob:"))}


def fits(browser: Any) -> bool:
    """Whether nothing is wider than the screen."""
    return browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_row_of_features_is_answered_and_explained(browser: Any) -> None:
    ensemble = load_ensemble(RUNS / "whole-on-features")
    with serving(ensemble) as url:
        browser.get(url)
        asked(browser)
        (answer,) = ensemble.explain(vector(ensemble, 0), 5)
        classify(browser, json.dumps(vector(ensemble, 0)[0]))
        shown = result_of(browser)
        assert shown.startswith(f"{answer.predicted}, {100 * answer.probability:.1f} %")
        assert "What the base said" in shown
        for one in answer.specialists:
            assert f"What the specialist of cluster {one.cluster} said" in shown
        assert asked(browser) == {f"{url}/predict"}
        assert fits(browser)

        classify(browser, "[1, 2")
        assert "JSON" in WebDriverWait(browser, 30).until(lambda _: browser.find_element(By.ID, "error").text)
        classify(browser, "[1, 2]")
        refused = f"{ensemble.preprocessing.shape[0]}"
        WebDriverWait(browser, 30).until(lambda _: refused in browser.find_element(By.ID, "error").text)
        assert not browser.find_element(By.ID, "result").text


def test_an_image_is_shown_with_its_answer(browser: Any, tmp_path: Path) -> None:
    ensemble = load_ensemble(RUNS / "tails-of-two-partitions")
    (tmp_path / "a.png").write_bytes(picture(ensemble, 0))
    (answer,) = ensemble.explain([tmp_path / "a.png"], 5)
    with serving(ensemble, token="secret") as url:
        browser.get(url)
        assert fits(browser)
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "a.png"))
        assert "token" in result_of(browser)
        browser.find_element(By.ID, "token").send_keys("secret")
        (tmp_path / "b.png").write_bytes(picture(ensemble, 0))
        asked(browser)
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / "b.png"))
        WebDriverWait(browser, 30).until(lambda _: browser.find_element(By.ID, "result").text)
        assert result_of(browser).startswith(f"{answer.predicted}, {100 * answer.probability:.1f} %")
        shown = browser.find_element(By.CSS_SELECTOR, "#result img")
        assert browser.execute_script("return arguments[0].naturalWidth", shown) == ensemble.preprocessing.shape[1]
        assert asked(browser) == {f"{url}/predict"}
        assert fits(browser)
        first, second = (one.cluster for one in answer.specialists)
        assert f"Routed to clusters {first} and {second}:" in result_of(browser)


def test_a_script_in_a_name_is_shown_as_text(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = load_ensemble(RUNS / "whole-on-features")
    whole, name = ensemble.explain, "<img src=x onerror=alert(1)>"

    def renamed(samples: Any, top: int) -> Any:
        return [replace(answer, predicted=name) for answer in whole(samples, top)]

    monkeypatch.setattr(ensemble, "explain", renamed)
    with serving(ensemble) as url:
        browser.get(url)
        classify(browser, json.dumps(vector(ensemble, 0)[0]))
        assert result_of(browser).startswith(name)
        assert not browser.find_elements(By.CSS_SELECTOR, "#result img")
