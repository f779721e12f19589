"""The guest agent's interpreter reads every policy of ours, in each version of Rego that it knows."""

import pytest

from tests.support.policies import RICH, case
from tests.support.regorus import WHY_NOT, dialects, regorus_answers


@pytest.mark.skipif(not dialects(), reason=WHY_NOT)
def test_the_agents_interpreter_agrees_with_ours() -> None:
    """A policy that only our interpreter reads would stop every pod; every other test of policies asks it too."""
    pod = case(RICH)
    assert regorus_answers(pod.policy.text, {}, "SetPolicyRequest", {"policy": ""}) == [(False, [])] * len(dialects())
    assert regorus_answers(pod.policy.text, {}, "GetOOMEventRequest", {}) == [(True, [])] * len(dialects())
    for step in pod.shim.life():
        pod.allowed(*step)
