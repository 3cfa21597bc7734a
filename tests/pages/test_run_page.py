from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from coterie.labels import LabelSpace
from coterie.measures.costs import RunCosts
from coterie.measures.report import Curve
from coterie.pages import figures
from coterie.pages.drawing import WIDTH
from coterie.pages.format import points
from coterie.pages.run_page import Example, ReportContent, render, verdict
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.evaluation import Outputs, Routing, evaluate
from coterie.routing.fitting import Combination
from coterie.routing.gate import Budget, Gate, sweep_thresholds
from coterie.routing.ladder import ladder_of
from coterie.routing.rule import Rule
from coterie.routing.trials import Candidate
from coterie.routing.tune import Tuning

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = ("<script>alert(1)</script>", '" onload="x', "a & b", "Ελληνικά", "Кириллица " * 12, "{{ 7 * 7 }}")


class Page(HTMLParser):
    """Checks that tags balance; gathers tags with attributes, and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def count(self, tag: str, css: str) -> int:
        wanted = set(css.split())
        return sum(name == tag and wanted <= set((a.get("class") or "").split()) for name, a in self.tags)


def make_example(partition: Partition, label: int, base: int, ensemble: int, channels: int = 3) -> Example:
    rng = np.random.default_rng(label)
    cluster = int(partition.cluster_of_class_C[base])
    return Example(
        sample=rng.integers(0, 256, (8, 8, channels), dtype=np.uint8),
        label=label,
        base_logits_C=rng.normal(size=partition.n_classes),
        cluster=cluster,
        specialist_logits=rng.normal(size=len(partition.classes(cluster))),
        base_class=base,
        ensemble_class=ensemble,
        score=1.25,
    )


def make_content(n_classes: int = 6, n_clusters: int = 2, n: int = 240, names: tuple[str, ...] = ()) -> ReportContent:
    rng = np.random.default_rng(0)
    partition = Partition.from_assignment(np.arange(n_classes) % n_clusters)

    def outputs() -> Outputs:
        label_N = rng.integers(0, n_classes, n)
        base_NC = 2 * np.eye(n_classes)[label_N] + rng.normal(size=(n, n_classes))
        return Outputs(base_NC, base_NC[:, partition.packed_class_M] + rng.normal(size=base_NC.shape), label_N)

    validation, test = outputs(), outputs()
    routing = Routing.of(validation, partition, Rule(Gate(0.0)))
    curve = sweep_thresholds(routing.score_N, *routing.right(validation.label_N))
    rule = Rule(Gate(float(curve.threshold_T[curve.best])))
    vectors = rng.normal(size=(n_classes, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ReportContent(
        about="Drawn <shapes> & letters.",
        backbone="convnet-64",
        labels=LabelSpace(names or tuple(f"class-{k}" for k in range(n_classes))),
        partition=partition,
        similarity_CC=vectors @ vectors.T,
        test=evaluate(test, partition, rule),
        validation=evaluate(validation, partition, rule),
        ladder=ladder_of(test, partition, rule),
        candidates=((n_clusters, 0.7),),
        tuning=Tuning(rule, None, (), 0.7, "", Budget()),
        examples=(make_example(partition, 0, 1, 0), make_example(partition, 1, 1, 0)),
        costs=RunCosts(712.0, 725.0, 1.2, 1.71, 3_214_500, 28_930_500),
        storage_bytes=128_600_000,
        histories=(("base", (2.0, 1.0), (0.3, 0.6)), ("specialist 0", (0.9,), (0.8,))),
        settings_yaml="seed: 0\nbackbone: <convnet-64>\n",
        versions={"coterie": "0.1.0", "torch": "2.6"},
        created="2025-01-31",
    )


@pytest.mark.parametrize(("n_classes", "n_clusters"), [(2, 1), (2, 2), (6, 2), (10, 10), (90, 45), (200, 1)])
def test_every_shape_of_partition_renders_with_balanced_tags(n_classes, n_clusters):
    page = Page(render(make_content(n_classes, n_clusters)))
    # Of one cluster there is no size to compare, and nothing is lost to routing.
    several = n_clusters > 1
    assert page.count("rect", "frame") == n_clusters
    assert page.count("rect", "mark") == n_clusters * several
    assert ("Routing alone" in page.text, "router's ceiling" in page.text) == (several, several)
    assert ("another opinion" in page.text) == (not several)
    assert ("Within the clusters" in page.text) == several
    assert all(f"class-{k}" in page.text for k in range(n_classes))


def test_a_thousand_classes_stay_within_a_few_megabytes():
    source = render(make_content(1000, 20))
    assert len(source.encode()) < 4_000_000
    Page(source)


def test_hostile_class_names_are_text_and_nothing_else():
    content = replace(make_content(6, 2, names=HOSTILE), candidates=((2, 0.7), (3, 0.6)))
    source = render(content)
    page = Page(source)
    assert not {"script", "shapes", "convnet-64"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(name in page.text for name in HOSTILE)
    assert html.escape("<shapes> & letters") in source
    assert "<convnet-64>" in page.text


def test_a_class_name_with_undecodable_bytes_can_be_written_to_a_file():
    content = make_content(2, 1, names=("good", "bad\udcff"))
    assert "bad?" in render(content).encode("utf-8").decode("utf-8")


def test_samples_of_classes_that_train_lacks_are_told_as_errors():
    content = make_content()
    n, base, ensemble = content.test.n_samples, content.test.base_top1, content.test.ensemble_top1
    assert "train lacks" not in Page(render(content)).text
    said = Page(render(replace(content, n_unknown=1234))).text
    shares = [f"{100 * top1 * n / (n + 1234):.1f}" for top1 in (base, ensemble)]
    numbers = re.search(
        r"With the (\S+) test samples of classes that train lacks as errors, the base gets (\S+)\s"
        r"% right, the ensemble (\S+)",
        said,
    )
    assert numbers is not None
    assert numbers.groups() == ("1,234", *shares)


def test_the_page_needs_nothing_but_itself():
    source = render(make_content())
    for tag, attributes in Page(source).tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for name in ("src", "href", "srcset", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"https?:|@import|url\(", source)


def test_every_headline_number_is_there():
    content = make_content(n=600)
    test, text = content.test, Page(render(content)).text
    shares = (test.base_top1, test.base_top3, test.ensemble_top1, test.ensemble_top3, test.router_accuracy)
    shares += (test.oracle_restricted, test.oracle_specialist)
    assert all(f"{100 * share:.2f}\N{NO-BREAK SPACE}%" in text for share in shares)
    assert all(points(value) in text for value in (test.gain, test.gain_low, test.gain_high))
    assert f"{100 * test.routed_fraction:.1f}\N{NO-BREAK SPACE}%" in text
    assert f"{test.mean_passes:.2f}" in text
    assert all(part in text for part in ("12 min 5 s", "11 min 52 s", "1.02 times", "1.20 ms", "1.71 ms", "128.6 MB"))
    assert "28,930,500" in text


def test_few_samples_are_given_with_one_decimal():
    content = make_content(n=240)
    assert f"{100 * content.test.base_top1:.1f}\N{NO-BREAK SPACE}%" in Page(render(content)).text


@pytest.mark.parametrize(
    ("low", "high", "routed", "claim"),
    [
        (0.001, 0.02, 0.4, "A measurable gain"),
        (-0.001, 0.02, 0.4, "No measurable gain"),
        (0.0, 0.0, 0.4, "No measurable gain"),
        (-0.02, -0.001, 0.4, "A measurable loss"),
        (0.0, 0.0, 0.0, "No gain: no specialist is asked"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(low, high, routed, claim):
    content = make_content()
    test = replace(content.test, gain=(low + high) / 2, gain_low=low, gain_high=high, routed_fraction=routed)
    assert verdict(test).claim == claim
    assert claim in Page(render(replace(content, test=test))).text
    doubted = "A gain that may not hold" if low > 0 else claim
    assert verdict(test, "Test is train.").claim == doubted
    page = Page(render(replace(content, test=test, caution="Test is train."))).text
    assert doubted in page
    assert "Test is train." in page


def test_the_chosen_point_is_drawn_on_both_curves_where_the_gate_stands():
    content = make_content()
    page = Page(render(content))
    assert page.count("svg", "symbol") > 0
    drawn = figures.threshold_curves(content.test.curve, content.validation.curve, ((0.5, 0.7), (0.25, 0.8)), 0.6)
    x = figures.Scale(0, 1, 84, WIDTH - 18)
    assert re.search(rf'<circle class="dot chosen first" cx="{x(0.5):.1f}"', drawn)
    assert re.search(rf'<path class="diamond chosen second" d="M{x(0.25):.1f} ', drawn)
    # Once in the figure, once in its legend.
    assert page.count("circle", "dot chosen first") == page.count("path", "diamond chosen second") == 2


def test_a_curve_of_one_point_and_no_threshold_render():
    content = make_content()
    curve = Curve((1.0,), (0.0,), (0.7,))
    flat = replace(content.test, curve=curve, threshold=None, base_top1=0.7, ensemble_top1=0.7)
    page = Page(render(replace(content, test=flat, validation=flat)))
    assert "no threshold pays" in page.text
    assert page.count("polyline", "first line") == 1  # the base's training; the curve is a dot


def test_the_rule_is_told_with_the_table_that_it_was_chosen_from():
    content = make_content(6, 3)
    tried = tuple(
        Candidate(Combination("blend", k + 1), "margin", accuracy=0.7 - k / 100, gain=0.02, passes=1.4, routed=0.4)
        for k in range(20)
    )
    rule = Rule(
        Gate(0.2, "contested"),
        Combiner.named("blend", (0.65, 0.0, 0.65), top=2, temperature=0.96),
        Temperatures(0.83, (0.7, 1.0, 1.5)),
    )
    tuning = Tuning(rule, None, tried, 0.7, "Chosen <for> a reason.", Budget())
    page = Page(render(replace(content, tuning=tuning, costs=replace(content.costs, ensemble_image_ms=None))))
    assert "contested" in page.text
    assert "The specialists of the 2 most likely clusters are asked" in page.text
    assert "Weight of a specialist's word: 0.0, 0.65." in page.text
    assert (
        "divided by 0.83, those of the specialists by 0.70 to 1.50, and the logarithms of what comes of them by 0.96"
        in page.text
    )
    assert "In 1 of 3 clusters the specialist was no better than the restricted base on validation" in page.text
    assert "Chosen <for> a reason." in page.text
    assert re.search(r"blend\s*margin\s*70\.", page.text)
    assert "The best 12 of 20 that were tried" in page.text
    assert "the ensemble's rule has changed since it was timed" in page.text


def test_nothing_to_show_is_said():
    page = Page(render(replace(make_content(), examples=(), histories=())))
    assert page.count("article", "example") == 0
    assert "There is none to show" in page.text
    assert "No training was recorded" in page.text


def test_a_specialist_worse_than_the_restricted_base_is_marked():
    content = make_content()
    rows = tuple(replace(row, restricted_top1=0.8, specialist_top1=0.9) for row in content.test.clusters)
    good = Page(render(replace(content, test=replace(content.test, clusters=rows))))
    rows = (rows[0], replace(rows[1], specialist_top1=0.7))
    bad = Page(render(replace(content, test=replace(content.test, clusters=rows))))
    assert "In none of the 2 clusters" in good.text
    assert "In 1 of 2 clusters the specialist is worse than the restricted base: 1." in bad.text
    assert f"▼ {points(-0.1, 1)}" in bad.text
    # The legend has one such marker in any case.
    assert (good.count("path", "down bad"), bad.count("path", "down bad")) == (1, 2)


def test_a_cluster_without_test_images_or_specialist_says_so():
    content = make_content(3, 2)
    rows = (replace(content.test.clusters[0], n_samples=0), content.test.clusters[1])
    text = Page(render(replace(content, test=replace(content.test, clusters=rows)))).text
    assert "no test sample" in text
    assert "one class, no specialist" in text


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_show_corrected_then_spoiled_then_others(channels):
    content = make_content()
    partition = content.partition
    answers = [(0, 1, 2), (1, 1, 0), (3, 1, 3)]
    examples = tuple(make_example(partition, *answer, channels) for answer in answers)
    page = Page(render(replace(content, examples=examples)))
    assert re.findall("✓ corrected|✗ spoiled|✗ both wrong", page.text) == [
        "✓ corrected",
        "✗ spoiled",
        "✗ both wrong",
    ]
    assert page.count("article", "example") == page.count("img", "pixelated") == 3
    # Label 0 is in cluster 0, the base's answer 1 in cluster 1.
    assert page.text.count("The true class is not in this cluster") == 1


def test_the_true_class_is_listed_even_when_it_ranks_low():
    content = make_content(20, 2)
    example = make_example(content.partition, 3, 1, 5)
    logits = np.arange(20.0)
    page = Page(render(replace(content, examples=(replace(example, base_logits_C=logits, label=3),))))
    assert re.search(r"17\s*✓ class-3\s*3\.00", page.text)


def test_the_taken_number_of_clusters_is_marked_among_the_candidates():
    content = replace(make_content(6, 2), candidates=((2, 0.71234), (3, 0.7)))
    assert re.search(r"2\s*71\.2\N{NO-BREAK SPACE}%\s*✓ taken", Page(render(content)).text)
    assert "✓ taken" not in Page(render(make_content())).text
