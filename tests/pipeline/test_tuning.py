from coterie.config import GateSettings
from coterie.pipeline.tuning import tuning_request
from coterie.routing.gate import Budget
from coterie.routing.tune import GATES, TuningRequest


def test_what_the_settings_leave_open_may_be_chosen() -> None:
    request = tuning_request(GateSettings(score="auto", combiner="blend", top=3, passes=1.5))
    assert request == TuningRequest(("blend",), GATES, (3,), Budget(passes=1.5))
    assert tuning_request(GateSettings()) == TuningRequest()


def test_every_limit_reaches_the_budget() -> None:
    limits = {"passes": 1.5, "routed": 0.4, "risk": 0.2}
    assert tuning_request(GateSettings(**limits)).budget == Budget(**limits)
    assert tuning_request(GateSettings(score="margin", combiner="blend", threshold=0.4)).budget.threshold == 0.4
