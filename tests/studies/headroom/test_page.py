import re
from dataclasses import replace

import numpy as np
import pytest

from coterie.partition import Partition
from coterie.studies.headroom.advice import Advice, Headroom, Setting
from coterie.studies.headroom.costs import SettingCost
from coterie.studies.headroom.page import SHAPES, HeadroomContent, gain_chart, render

MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def setting(method: str, n_clusters: int, gain: float) -> Setting:
    figures = (0.9, 0.8, 0.85, 0.86, gain, gain - 0.01, gain + 0.01, 0.6, 0.4, 0.25)
    return Setting(method, n_clusters, 1, 2.5, 4, *figures, 3, 1.0, 0.004)


@pytest.fixture
def content() -> HeadroomContent:
    settings = tuple(setting(method, n, n / 1000) for n in (2, 4) for method in ("spectral", "average"))
    advice = Advice(True, settings[-1], ("A <good> reason.",))
    partition = Partition.from_assignment(np.arange(8) % 4)
    headroom = Headroom(500, 8, 0.7125, "blend", 0.005, settings, advice, partition)
    costs = (SettingCost(15.0, 600.0, 4_000_000),) * 4
    return HeadroomContent("Made <up>", headroom, costs, settings[0], "Caution.", "coterie fit --out 'a b'")


def test_every_setting_has_a_row_and_the_advised_one_is_marked(content: HeadroomContent) -> None:
    page = render(content)
    assert page.count("<tr") == 1 + 4
    assert page.count('<tr class="chosen"') == 1
    assert "Made &lt;up&gt;. Base accuracy 71.25" + SPACE + "%." in page
    assert "A &lt;good&gt; reason." in page
    assert f"forecast +0.20 points ({MINUS}0.80 to +1.20), router 90.0{SPACE}%" in page
    assert "10 min" in page
    assert "4.0 MB" in page
    assert "Caution." in page
    assert "coterie fit --out" in page
    assert "Train them: average, 4 clusters" in page


def test_advice_against_training_says_so(content: HeadroomContent) -> None:
    against = replace(content.headroom, advice=replace(content.headroom.advice, train=False))
    page = render(replace(content, headroom=against, test=None, caution=None, next_command=None))
    assert "Don&#39;t train specialists" in page
    assert "<pre>" not in page


def test_the_chart_has_a_shape_for_each_method_and_tells_gains(content: HeadroomContent) -> None:
    drawn = gain_chart(content.headroom)
    assert [drawn.count("</title></text>"), drawn.count(SHAPES[0]), drawn.count(SHAPES[1])] == [4, 2, 2]
    assert f"average, 4 clusters: +0.40 ({MINUS}0.60 to +1.40) points" in drawn
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="middle shape', drawn)]
    assert heights[0] > heights[2]  # a larger gain is higher
