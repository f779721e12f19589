"""Other interpreters, the guest agent's own above all, read every policy of ours, in each version of Rego they know."""

import pytest

from tests.support.policies import RICH, case
from tests.support.regorus import WHY_NOT, interpreters, regorus_answers


@pytest.mark.skipif(interpreters() == 0, reason=WHY_NOT)
def test_other_interpreters_agree_with_ours() -> None:
    """A policy that only our interpreter reads would stop every pod; every other test of policies asks it too."""
    pod = case(RICH)
    assert regorus_answers(pod.policy.text, {}, "SetPolicyRequest", {"policy": ""}) == [(False, [])] * interpreters()
    assert regorus_answers(pod.policy.text, {}, "GetOOMEventRequest", {}) == [(True, [])] * interpreters()
    for step in pod.shim.life():
        pod.allowed(*step)
