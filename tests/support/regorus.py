"""Other interpreters beside ours: the guest agent's own, `regorus`, in this process; and `regorus`, `opa` on PATH.

The one in this process is a development requirement (built for Linux on x86-64), so it answers in every run there. As
programs, other versions can be asked: `cargo install regorus --example regorus`, `go install …/opa`.
"""

import importlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

WHY_NOT = (
    "no regorus for this machine (requirements/dev.txt has it for Linux on x86-64), and no program regorus or opa on "
    "PATH: answers are not compared"
)
Answer = tuple[bool, list[object]]


class _Engine(Protocol):
    """What the package offers of the agent's interpreter."""

    def set_rego_v0(self, enable: bool) -> None: ...
    def add_policy(self, path: str, rego: str) -> None: ...
    def add_data_json(self, data: str) -> None: ...
    def set_input_json(self, input: str) -> None: ...  # noqa: A002 theirs
    def eval_query_as_json(self, query: str) -> str: ...
    def clone(self) -> "_Engine": ...


def embedded() -> bool:
    """Whether the agent's interpreter is part of this Python."""
    return importlib.util.find_spec("regorus") is not None


@lru_cache
def dialects() -> tuple[tuple[str, ...], ...]:
    """The commands for each version of Rego that agents use: 0.2 reads v0, 0.9 reads v1, and v0; none without it.

    0.2 has an option for v1 too, which no agent uses and which refuses the imports that v0 needs.
    """
    found: list[tuple[str, ...]] = []
    if (program := shutil.which("regorus")) is not None:
        # Failing builtins are undefined, as in the agent.
        ask = (program, "eval", "--non-strict")
        usage = subprocess.run([program, "eval", "--help"], capture_output=True, text=True, check=True).stdout
        found += [ask, (*ask, "--v0")] if "--v0" in usage else [ask]
    if (program := shutil.which("opa")) is not None:
        found += [(program, "eval"), (program, "eval", "--v0-compatible")]
    return tuple(found)


def interpreters() -> int:
    """How many answers `regorus_answers` gives: each interpreter in each version of Rego."""
    return (2 if embedded() else 0) + len(dialects())


def regorus_answers(
    text: str, state: Mapping[str, object], endpoint: str, request: Mapping[str, object]
) -> list[Answer]:
    """What the others say to *request* in each dialect: allowed or not, and the operations on the state."""
    found: list[Answer] = []
    data, asked = json.dumps({"pstate": dict(state)}), json.dumps(request)
    if embedded():
        found += [_embedded_answer(_loaded(text, v0=v0), data, endpoint, asked) for v0 in (False, True)]
    if not dialects():
        return found
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("policy.rego", text), ("data.json", data), ("input.json", asked)):
            Path(folder, name).write_text(content)
        for command in dialects():
            done = subprocess.run(
                [*command, "-d", "policy.rego", "-d", "data.json", "-i", "input.json", f"data.agent_policy.{endpoint}"],
                capture_output=True, text=True, check=False, cwd=folder,
            )  # fmt: skip
            found.append((False, []) if done.returncode != 0 else _answer(done.stdout))  # An error: the agent denies.
    return found


@lru_cache(maxsize=16)
def _loaded(text: str, *, v0: bool) -> _Engine:
    engine = cast("_Engine", importlib.import_module("regorus").Engine())
    engine.set_rego_v0(v0)
    engine.add_policy("policy.rego", text)
    return engine


def _embedded_answer(loaded: _Engine, data: str, endpoint: str, asked: str) -> Answer:
    engine = loaded.clone()
    engine.add_data_json(data)
    engine.set_input_json(asked)
    try:
        return _answer(engine.eval_query_as_json(f"data.agent_policy.{endpoint}"))
    except RuntimeError:
        return False, []  # A failing builtin ends its answer; for the agent it is undefined. Both deny.


def _answer(text: str) -> Answer:
    result = json.loads(text).get("result") or [{"expressions": [{"value": False}]}]
    value = result[0]["expressions"][0]["value"]
    if isinstance(value, dict):
        return value.get("allowed") is True, list(value.get("ops") or [])
    return value is True, []
