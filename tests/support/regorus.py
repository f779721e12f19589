"""The guest agent's own interpreter, where a program ``regorus`` is on PATH; asked as the agent asks it."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

WHY_NOT = "no program regorus on PATH (cargo install regorus --example regorus): answers are not compared with it"


@lru_cache
def dialects() -> tuple[tuple[str, ...], ...]:
    """The options for each version of Rego that agents use: 0.2 reads v0, 0.9 reads v1, and v0; none without it.

    0.2 has an option for v1 too, which no agent uses and which refuses the imports that v0 needs.
    """
    program = shutil.which("regorus")
    if program is None:
        return ()
    usage = subprocess.run([program, "eval", "--help"], capture_output=True, text=True, check=True).stdout
    return ((), ("--v0",)) if "--v0" in usage else ((),)


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
        for options in dialects():
            # Failing builtins are undefined, as in the agent.
            command = ["regorus", "eval", "--non-strict", *options, "-d", "policy.rego", "-d", "data.json"]
            done = subprocess.run(
                [*command, "-i", "input.json", f"data.agent_policy.{endpoint}"],
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
