"""Answers requests by a policy's own Rego, with the state that the guest agent would keep; explains what it denies.

The interpreter is regopy (rego-cpp), whose limits stay in here. Compiling is slow, and data once loaded cannot be
replaced, so the rules, which all policies of one version share, are compiled once; state and expectations go with the
input, for this interpreter alone. It is built once and never again: with a second bundle, it answers questions to the
first one wrongly. Its regular expressions see texts as JSON writes them, so patterns are rewritten for it. Failed
queries are reported by a flag, and plain inputs mangle texts (so requests go in as JSON).
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
from policy.model import SANDBOX_KEY
from policy.reasons import Reason, get
from policy.rego import policy_data, split_policy
from policy.text import escape

_MODULE = "agent_policy"
_NAME = "policy_data"
_PULL_OPTION = "image_guest_pull="
_VARIABLES = {"env_patterns", "env_links"}
_PATTERN_KEYS = {"pattern", *_VARIABLES, "copies"}
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
        self._expectations = _Expectations(self._data)
        rules, _ = split_policy(text)
        self._rules = _compiled(rules)
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
        expectations = self._expectations.for_request(request, self._state)
        allowed, operations = self._rules.ask(endpoint, request, self._state, expectations)
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


class _Expectations:
    """``policy_data`` as JSON texts for the interpreter: the pod, what is shared, and each container by its key."""

    def __init__(self, data: Mapping[str, object]) -> None:
        escaped = cast("dict[str, object]", _escaped_patterns(data))
        containers = escaped["containers"]
        self._containers = {
            key: _json({key: value})[1:-1]
            for key, value in (containers if isinstance(containers, dict) else {}).items()
        }
        self._shared = _json({"shared": escaped["shared"]})[1:-1]
        self._pod = _json({"pod": escaped["pod"]})[1:-1]

    def for_request(self, request: Mapping[str, object], state: Mapping[str, object]) -> str:
        """All that the rules can look up for *request*: a container by these keys, what is shared for its creation."""
        name = get(request, "OCI", "Annotations", "io.kubernetes.cri.container-name")
        keys = (name, state.get(f"id:{request.get('container_id')}"), SANDBOX_KEY if "OCI" in request else None)
        chosen = dict.fromkeys(key for key in keys if isinstance(key, str) and key in self._containers)
        containers = f'"containers":{{{",".join(self._containers[key] for key in chosen)}}}'
        return "{" + ",".join((self._pod, containers, *((self._shared,) if "OCI" in request else ()))) + "}"


class _Rules:
    """Loaded rules without state and expectations; one question at a time, from any thread."""

    def __init__(self, rules: str) -> None:
        self._endpoints = frozenset(re.findall(r"^default ([A-Za-z]+) := false$", rules, re.MULTILINE))
        self._lock = threading.Lock()
        self._interpreter = cast("_Interpreter", regopy.Interpreter())
        own = rules.replace("data.pstate", "input.pstate")
        for end in ("]", '"'):  # State and expectations are no fields that a request may not have.
            own = own.replace(
                f"only(input, [{end}", f'only(input, ["pstate", "{_NAME}"{end if end == "]" else ", " + end}'
            )
        text = f"{own}\n{_NAME} := input.{_NAME}\n"
        try:
            self._interpreter.add_module(_MODULE, text)
            self._bundle = self._interpreter.build(
                f"v = data.{_MODULE}.{_NAME}", [f"{_MODULE}/{endpoint}" for endpoint in sorted(self._endpoints)]
            )
        except regopy.RegoError as error:
            raise PolicyTextError(f"the policy is no Rego: {error}") from error
        if not self._bundle.ok():
            raise PolicyTextError(f"the policy's rules cannot be compiled: {self._bundle}")

    def ask(
        self, endpoint: str, request: Mapping[str, object], state: Mapping[str, object], expectations: str
    ) -> tuple[bool, Sequence[Mapping[str, object]]]:
        """Whether *request* is allowed in *state*, and how the state changes then."""
        if endpoint not in self._endpoints or not _readable(request):
            return False, ()
        if request.get("pstate") or request.get(_NAME):
            return False, ()  # Fields that no agent knows.
        fields = {name: value for name, value in request.items() if name not in {"pstate", _NAME}}
        term = _json({**fields, "pstate": state})
        with self._lock:
            self._interpreter.set_input_term(f'{term[:-1]},"{_NAME}":{expectations}}}')
            try:
                output = self._interpreter.query_bundle_entrypoint(self._bundle, f"{_MODULE}/{endpoint}")
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


@lru_cache(maxsize=32)
def _compiled(rules: str) -> _Rules:
    """Pods share what was compiled."""
    return _Rules(rules)


# The interpreters must go before the library that they belong to.
atexit.register(_compiled.cache_clear)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _escaped_patterns(value: object, key: str = "") -> object:
    """The expectations, with patterns for texts in which quotes, backslashes and control characters are escaped."""
    match value:
        case dict():
            return {name: _escaped_patterns(item, key if key in _VARIABLES else name) for name, item in value.items()}
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
