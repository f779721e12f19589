"""Answers requests by a policy's own Rego, with the state that the guest agent would keep; explains what it denies.

The interpreter is regopy (rego-cpp), whose limits stay in here: it cannot replace data, so each change of state takes a
new one; it reports failed queries by a flag; and its plain inputs mangle texts, so requests go in as JSON.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import regopy

from policy.errors import PolicyTextError
from policy.explain import explain
from policy.reasons import Reason
from policy.rego import policy_data

_MODULE = "agent_policy"
PULL_OPTION = "image_guest_pull="


class _Output(Protocol):
    def ok(self) -> bool: ...
    def __len__(self) -> int: ...


class _Bundle(Protocol):
    def ok(self) -> bool: ...


class _Interpreter(Protocol):
    def add_data(self, data: Mapping[str, object]) -> None: ...
    def add_module(self, name: str, text: str) -> None: ...
    def set_input_term(self, term: str) -> None: ...
    def build(self, query: str, entrypoints: Sequence[str]) -> _Bundle: ...
    def query_bundle_entrypoint(self, bundle: _Bundle, entrypoint: str) -> _Output: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer to one request; *reasons* say why it was denied (what was seen, what is wanted), all of them."""

    allowed: bool
    reasons: tuple[Reason, ...] = ()

    def __str__(self) -> str:
        return "allowed" if self.allowed else "\n".join(map(str, self.reasons))


class PolicyEngine:
    """One guest: a policy and its state, which allowed requests change as they would in the agent."""

    def __init__(self, text: str) -> None:
        """Load *text*.

        Raises:
            PolicyTextError: it is no policy of this program, or the interpreter cannot read it.
        """
        self._text = text
        self._data = policy_data(text)
        self._endpoints = frozenset(re.findall(r"^default ([A-Za-z]+) := false$", text, re.MULTILINE))
        self._state: dict[str, object] = {}
        self._bundles: dict[str, _Bundle] = {}
        self._interpreter = self._load()

    @property
    def state(self) -> Mapping[str, object]:
        """What the agent would hold under ``data.pstate``."""
        return dict(self._state)

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a *state* that an engine of the same policy had."""
        self._state = dict(state)
        self._bundles.clear()
        self._interpreter = self._load()

    def allow(self, endpoint: str, request: Mapping[str, object]) -> Decision:
        """Judge *request* to *endpoint* (``CreateContainerRequest``, …), every protobuf field present.

        Raises:
            PolicyTextError: the policy gives an answer that the agent would not understand.
        """
        allowed, operations = self._ask(endpoint, request)
        if not allowed:
            return Decision(allowed=False, reasons=explain(self._data, self._state, endpoint, request))
        if operations:
            for operation in operations:
                self._apply(operation)
            self.restore(self._state)
        return Decision(allowed=True)

    def _load(self) -> _Interpreter:
        interpreter = cast("_Interpreter", regopy.Interpreter())
        try:
            interpreter.add_data({"pstate": self._state})
            interpreter.add_module(_MODULE, self._text)
        except regopy.RegoError as error:
            raise PolicyTextError(f"the policy is no Rego: {error}") from error
        return interpreter

    def _ask(self, endpoint: str, request: Mapping[str, object]) -> tuple[bool, Sequence[Mapping[str, object]]]:
        if endpoint not in self._endpoints:
            return False, ()
        # A compiled bundle of this endpoint alone is the quickest: one of all endpoints is three times slower.
        entrypoint = f"{_MODULE}/{endpoint}"
        bundle = self._bundles.get(endpoint)
        if bundle is None:
            bundle = self._interpreter.build(f"v = data.{_MODULE}.{endpoint}", [entrypoint])
            if not bundle.ok():
                raise PolicyTextError(f"the policy's rule {endpoint} cannot be compiled: {bundle}")
            self._bundles[endpoint] = bundle
        if not _readable(request):
            return False, ()
        self._interpreter.set_input_term(json.dumps(request, ensure_ascii=False))
        output = self._interpreter.query_bundle_entrypoint(bundle, entrypoint)
        if not output.ok() or len(output) == 0:
            return False, ()  # Undefined or an error: the agent denies too.
        (answer,) = json.loads(str(output))["expressions"]
        match answer:
            case bool():
                return answer, ()
            case {"allowed": bool(allowed), "ops": list(operations)}:
                return allowed, operations
            case _:
                raise PolicyTextError(f"the policy answers {endpoint} with {answer!r}, which no agent understands")

    def _apply(self, operation: Mapping[str, object]) -> None:
        """One operation of a JSON Patch (RFC 6902); the rules only ever add, directly below ``/pstate``."""
        path = str(operation.get("path"))
        key = path.removeprefix("/pstate/")
        if operation.get("op") != "add" or key == path or "/" in key or "~" in key:
            raise PolicyTextError(
                f"the policy changes its state by {dict(operation)!r}, which this program does not do"
            )
        self._state[key] = operation["value"]


def _readable(request: Mapping[str, object]) -> bool:
    """Whether the JSON inside a request is JSON: the agent refuses other, but rego-cpp prints about it, and takes some."""
    storages = request.get("storages")
    for storage in storages if isinstance(storages, list) else ():
        options = storage.get("driver_options") if isinstance(storage, dict) else None
        for option in options if isinstance(options, list) else ():
            if isinstance(option, str) and option.startswith(PULL_OPTION):
                try:
                    json.loads(option.removeprefix(PULL_OPTION))
                except (ValueError, RecursionError):
                    return False
    return True
