"""The guest agent's own interpreter, `regorus`, and `opa`, where they are on PATH; asked as the agent asks."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

WHY_NOT = "no program regorus (cargo install regorus --example regorus) nor opa on PATH: answers are not compared"


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


def regorus_answers(
    text: str, state: Mapping[str, object], endpoint: str, request: Mapping[str, object]
) -> list[tuple[bool, list[object]]]:
    """What the program says to *request* in each dialect: allowed or not, and the operations on the state."""
    found: list[tuple[bool, list[object]]] = []
    if not dialects():
        return found
    with tempfile.TemporaryDirectory() as folder:
        data, asked = json.dumps({"pstate": dict(state)}), json.dumps(request)
        for name, content in (("policy.rego", text), ("data.json", data), ("input.json", asked)):
            Path(folder, name).write_text(content)
        for command in dialects():
            done = subprocess.run(
                [*command, "-d", "policy.rego", "-d", "data.json", "-i", "input.json", f"data.agent_policy.{endpoint}"],
                capture_output=True, text=True, check=False, cwd=folder,
            )  # fmt: skip
            found.append(_answer(done))
    return found


def _answer(done: "subprocess.CompletedProcess[str]") -> tuple[bool, list[object]]:
    if done.returncode != 0:
        return False, []  # An error: the agent denies.
    result = json.loads(done.stdout).get("result") or [{"expressions": [{"value": False}]}]
    value = result[0]["expressions"][0]["value"]
    if isinstance(value, dict):
        return value.get("allowed") is True, list(value.get("ops") or [])
    return value is True, []
