"""Answers requests by a policy's own Rego, with the state that the guest agent would keep; explains what it denies.

The interpreter is regopy (rego-cpp), whose limits stay in here. It cannot replace data once loaded, so the state goes
with the input: the rules' ``data.pstate`` becomes ``input.pstate`` for it, and for it alone. Its regular expressions
see texts as JSON writes them, so patterns are rewritten for it. Failed queries are reported by a flag, plain inputs
mangle texts (so requests go in as JSON), and compiling is slow (so it happens once for each endpoint).
"""

import atexit
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import regopy

from policy.errors import PolicyTextError
from policy.explain import explain
from policy.reasons import Reason
from policy.rego import policy_data, split_policy
from policy.text import escape

_MODULE = "agent_policy"
_PULL_OPTION = "image_guest_pull="
_PATTERN_KEYS = {"pattern", "env_patterns", "env_names", "copies"}
_ESCAPED = re.compile(r'\\\\|"|[\x00-\x1f]')  # A backslash is two in a pattern.


class _Output(Protocol):
    def ok(self) -> bool: ...
    def __len__(self) -> int: ...


class _Bundle(Protocol):
    def ok(self) -> bool: ...


class _Interpreter(Protocol):
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
        self._data = policy_data(text)
        self._rules = _compiled(text)
        self._state: dict[str, object] = {}

    @property
    def state(self) -> Mapping[str, object]:
        """What the agent would hold under ``data.pstate``."""
        return dict(self._state)

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from a *state* that an engine of the same policy had."""
        self._state = dict(state)

    def allow(self, endpoint: str, request: Mapping[str, object]) -> Decision:
        """Judge *request* to *endpoint* (``CreateContainerRequest``, …), every protobuf field present.

        Raises:
            PolicyTextError: the policy gives an answer that the agent would not understand.
        """
        allowed, operations = self._rules.ask(endpoint, request, self._state)
        if not allowed:
            return Decision(allowed=False, reasons=explain(self._data, self._state, endpoint, request))
        for operation in operations:
            self._apply(operation)
        return Decision(allowed=True)

    def _apply(self, operation: Mapping[str, object]) -> None:
        """One operation of a JSON Patch (RFC 6902); the rules only ever add, directly below ``/pstate``."""
        path = str(operation.get("path"))
        key = path.removeprefix("/pstate/")
        if operation.get("op") != "add" or key == path or "/" in key or "~" in key:
            raise PolicyTextError(
                f"the policy changes its state by {dict(operation)!r}, which this program does not do"
            )
        self._state[key] = operation["value"]


class _Rules:
    """A loaded policy without state; one question at a time, from any thread."""

    def __init__(self, text: str) -> None:
        rules, _ = split_policy(text)
        data = json.dumps(_escaped_patterns(policy_data(text)), ensure_ascii=False, indent=1)
        self._endpoints = frozenset(re.findall(r"^default ([A-Za-z]+) := false$", rules, re.MULTILINE))
        self._bundles: dict[str, _Bundle] = {}
        self._lock = threading.Lock()
        self._interpreter = cast("_Interpreter", regopy.Interpreter())
        try:
            self._interpreter.add_module(
                _MODULE, f"{rules.replace('data.pstate', 'input.pstate')}\npolicy_data := {data}\n"
            )
        except regopy.RegoError as error:
            raise PolicyTextError(f"the policy is no Rego: {error}") from error

    def ask(
        self, endpoint: str, request: Mapping[str, object], state: Mapping[str, object]
    ) -> tuple[bool, Sequence[Mapping[str, object]]]:
        """Whether *request* is allowed in *state*, and how the state changes then."""
        if endpoint not in self._endpoints or not _readable(request):
            return False, ()
        with self._lock:
            entrypoint = f"{_MODULE}/{endpoint}"
            bundle = self._bundle(endpoint, entrypoint)
            self._interpreter.set_input_term(json.dumps({**request, "pstate": state}, ensure_ascii=False))
            try:
                output = self._interpreter.query_bundle_entrypoint(bundle, entrypoint)
            except ValueError:  # Its answer was an error that it could not put into JSON.
                return False, ()
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

    def _bundle(self, endpoint: str, entrypoint: str) -> _Bundle:
        """The compiled rule of one endpoint: a bundle of all of them would be three times slower to ask."""
        bundle = self._bundles.get(endpoint)
        if bundle is None:
            bundle = self._interpreter.build(f"v = data.{_MODULE}.{endpoint}", [entrypoint])
            if not bundle.ok():
                raise PolicyTextError(f"the policy's rule {endpoint} cannot be compiled: {bundle}")
            self._bundles[endpoint] = bundle
        return bundle


@lru_cache(maxsize=32)
def _compiled(text: str) -> _Rules:
    """Replicas of a pod share what was compiled."""
    return _Rules(text)


# The interpreters must go before the library that they belong to.
atexit.register(_compiled.cache_clear)


def _escaped_patterns(value: object, key: str = "") -> object:
    """The expectations, with patterns for texts in which quotes, backslashes and control characters are escaped."""
    match value:
        case dict():
            return {name: _escaped_patterns(item, name) for name, item in value.items()}
        case list() if key == "env":  # Sorted by what it sees.
            return sorted(value, key=lambda text: json.dumps(text, ensure_ascii=False).encode())
        case list():
            return [_escaped_patterns(item, key) for item in value]
        case str() if key in _PATTERN_KEYS:
            return _ESCAPED.sub(lambda found: escape(json.dumps(found.group()[-1], ensure_ascii=False)[1:-1]), value)
        case _:
            return value


def _readable(request: Mapping[str, object]) -> bool:
    """Whether the JSON inside a request is JSON: the agent refuses other, rego-cpp prints about it and takes some."""
    storages = request.get("storages")
    for storage in storages if isinstance(storages, list) else ():
        options = storage.get("driver_options") if isinstance(storage, dict) else None
        for option in options if isinstance(options, list) else ():
            if isinstance(option, str) and option.startswith(_PULL_OPTION):
                try:
                    json.loads(option.removeprefix(_PULL_OPTION))
                except (ValueError, RecursionError):
                    return False
    return True
