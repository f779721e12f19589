"""Explanations are made of what a stranger sent: whatever it is, they are made, and say something."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.evaluate import PolicyEngine
from policy.messages import blocked, completed, messages_of, parse_requests
from policy.past import assumed_state
from policy.places import advice, container_of, place_of
from policy.rego import policy_data
from policy.words import describe, differences
from tests.support.policies import RICH, case, living_case, nodes, plain, rich_case, simple_pod

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_whatever_a_request_holds_its_denial_is_explained(data: st.DataObject) -> None:
    """A crash here would leave a person with nothing, about the very request that somebody made on purpose."""
    pod = living_case()
    expected = policy_data(pod.policy.text)
    life = [
        ("CreateContainerRequest", pod.shim.create_container("web")),
        ("CreateSandboxRequest", pod.shim.create_sandbox()),
        ("ExecProcessRequest", pod.shim.exec_process("web", ("/bin/ready",))),
        ("CopyFileRequest", next(iter(pod.shim.copies("web")))),
        ("UpdateInterfaceRequest", pod.shim.update_interface()),
        ("UpdateRoutesRequest", pod.shim.update_routes()),
    ]
    endpoint, honest = data.draw(st.sampled_from(life), label="request")
    request = copy.deepcopy(honest)
    _, holder, key = data.draw(st.sampled_from(list(nodes(request))), label="place")
    holder[key] = data.draw(JSON, label="value")
    whole = completed(endpoint, request)
    container = container_of(expected, {}, whole)
    engine = PolicyEngine(pod.policy.text)
    engine.restore(assumed_state(expected, endpoint, whole, container))
    decision = engine.allow(endpoint, whole)
    assert decision.allowed or decision.reasons
    for reason in decision.reasons:
        place = place_of(reason, pod.workload, container, whole)
        assert advice(reason, place)
        assert place is None or (place.line > 0 and str(place))


def test_a_request_without_its_default_fields_is_the_same_request() -> None:
    """People write what matters; the agent sees every field."""
    pod = rich_case("web")

    def shortened(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: shortened(item) for key, item in value.items()}
            return {key: item for key, item in kept.items() if item not in (None, "", 0, False) or item is True}
        return [shortened(item) for item in value] if isinstance(value, list) else value

    request = plain(pod.shim.create_container("web"))
    state = pod.engine.state
    assert pod.engine.allow("CreateContainerRequest", completed("CreateContainerRequest", shortened(request))).allowed
    pod.engine.restore(state)


@pytest.mark.parametrize(("line", "found"), [
    ('CopyFileRequest is blocked by policy: ["no"]', ("CopyFileRequest", '["no"]')),
    ('desc = "SetPolicyRequest is blocked by policy"', ("SetPolicyRequest", "")),
    (r'{"level":"ERRO","msg":"\"CopyFileRequest is blocked by policy: [\\\"no\\\"]\""}', ("CopyFileRequest", '["no"]')),
    (r'desc = "CopyFileRequest is blocked by policy: [\"no\"]": unknown', ("CopyFileRequest", '["no"]": unknown')),
    ('Nov 24 08:00:00 node kata[7]: time="x" level=error msg="CopyFileRequest is blocked by policy: "',
     ("CopyFileRequest", "")),
    ("Error: X is blocked by policy: y", None),
    ("nothing", None),
])  # fmt: skip
def test_log_lines(line: str, found: tuple[str, str] | None) -> None:
    assert blocked(messages_of(line)) == found


def test_a_journal_of_requests_is_read() -> None:
    """`journalctl` puts date, host and program before each line, and says other things between them."""
    entry = '{"kind": "GetOOMEventRequest", "request": {}}'
    journal = f"Nov 24 08:00:00 node kata[7]: started\nNov 24 08:00:01 node kata[7]: {entry}\n"
    assert parse_requests(messages_of(journal)) == [{"kind": "GetOOMEventRequest", "request": {}}]
    pretty = json.dumps({"kind": "X", "request": {"Annotations": {"msg": "y"}}}, indent=1).replace('{\n   "m', '{"m')
    assert parse_requests(messages_of(pretty)) == [json.loads(pretty)]
    record = json.dumps({"MESSAGE": entry, "_HOSTNAME": "node"})
    assert parse_requests(messages_of(f"{record}\n{record}\n")) == parse_requests(f"[{entry}, {entry}]")


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}\n{', "[[]]", "[" * 100_000, '"x"'])
def test_what_is_no_list_of_requests_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line|entry|nested"):
        parse_requests(text)


def test_requests_come_as_one_document_or_line_by_line() -> None:
    assert parse_requests('{"a": 1}') == [{"a": 1}]
    assert parse_requests('[{"a": 1}, {"b": 2}]') == parse_requests('{"a": 1}\n\n{"b": 2}\n')


def test_a_policy_of_a_stranger_is_shown_and_compared() -> None:
    """The embedded data is JSON that anybody may have written."""
    odd: dict[str, object] = {"pod": [], "containers": {"x": 1, "-": {}, "y": {"after": {"key": "y"}}}, "shared": "s"}
    assert [part.name for part in describe(odd)] == ["pod", "container x", "container y"]
    mine = policy_data(case(simple_pod()).policy.text)
    assert differences(odd, mine)
    assert not differences(mine, mine)
    assert {change.part for change in differences(mine, policy_data(case(RICH).policy.text))} >= {
        "pod",
        "container app",
    }


@pytest.mark.parametrize(("endpoint", "fields"), [
    ("CreateContainerRequest", {"base": {"OCI": {}}, "env_map": {"A": "b"}}),
    ("CopyFileRequest", {"path": "/x", "symlink_src": ""}),
])  # fmt: skip
def test_agents_of_another_line_are_named(endpoint: str, fields: dict[str, object]) -> None:
    """Dozens of differences would hide the only one that matters: this agent speaks in another form."""
    engine = PolicyEngine(case(simple_pod()).policy.text)
    (reason,) = engine.allow(endpoint, completed(endpoint, fields)).reasons
    assert "Microsoft's 3.2 line" in str(reason)
    assert "3.29" in reason.wanted
