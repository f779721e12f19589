"""The policy's own text answers as our engine does, which gives it its state in another way."""

import json

import regopy

from tests.support.policies import Case, case, plain, simple_pod


def untouched(text: str, state: object, endpoint: str, request: object) -> object:
    """The answer of the text as the agent would load it: state under ``data.pstate``, the whole query."""
    interpreter = regopy.Interpreter()
    interpreter.add_data({"pstate": state})
    interpreter.add_module("agent_policy", text)
    interpreter.set_input_term(json.dumps(request, ensure_ascii=False))
    output = interpreter.query(f"v = data.agent_policy.{endpoint}")
    assert output.ok()
    return json.loads(output.binding("v").json()) if len(output) else None


def test_the_text_itself_answers_the_same() -> None:
    pod: Case = case(simple_pod(container="readinessProbe: {exec: {command: [a]}}"))
    for endpoint, request in pod.shim.life():
        state = plain(pod.engine.state)
        answer = untouched(pod.policy.text, state, endpoint, request)
        pod.allowed(endpoint, request)
        assert answer is True or (isinstance(answer, dict) and answer["allowed"] is True)
        operations = answer["ops"] if isinstance(answer, dict) else []
        assert {**state, **{op["path"].removeprefix("/pstate/"): op["value"] for op in operations}} == pod.engine.state
    assert untouched(pod.policy.text, {}, "StartContainerRequest", {"container_id": "x"}) is False
    assert untouched(pod.policy.text, {}, "AllowRequestsFailingPolicy", {}) is False
    assert untouched(pod.policy.text, {}, "SetPolicyRequest", {"policy": ""}) is False


def test_texts_of_every_kind_reach_the_comparison_unharmed() -> None:
    """Quotes, line breaks, backslashes and letters beyond ASCII are where interpreters differ."""
    odd = "a\"b\\c\n\té\u2028$(X).*^${}'"
    pod = case(simple_pod(container=f"args: [{json.dumps(odd)}], env: [{{name: A, value: {json.dumps(odd)}}}, "
        "{name: P, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, "
        "{name: M, value: '$(P)[é].*\\\"'}]"))  # fmt: skip
    pod.run_until("app")
    request = plain(pod.shim.create_container("app"))
    pod.engine.restore(state := pod.engine.state)
    pod.allowed("CreateContainerRequest", request)
    pod.engine.restore(state)
    for change in ("a", "\\", "\n", "É"):
        wrong = json.loads(json.dumps(request).replace("\\u00e9", json.dumps("é" + change)[1:-1]))
        pod.denied("CreateContainerRequest", wrong, "OCI.Process")


def test_a_request_that_names_the_state_itself_changes_nothing() -> None:
    pod = case(simple_pod())
    pod.denied("StartContainerRequest", {"container_id": "x", "pstate": {"id:x": "app"}})
