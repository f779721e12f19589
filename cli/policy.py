"""`contrast policy`: policies for people; what is allowed and why not is decided in `policy`, this only shows it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cli.errors import DiffersError, RefusedError, UsageFaultError
from cli.options import PATHS
from cli.output import Output, clean
from cli.policyfile import Loaded, load_policy
from cli.session import Session, example, json_option
from cli.workspace import read_file
from policy.evaluate import PolicyEngine
from policy.explain_layers import demands_layers
from policy.messages import Request, blocked, completed, messages_of, parse_requests
from policy.model import SANDBOX_KEY
from policy.past import assumed_state
from policy.places import Place, advice, container_of, place_of
from policy.reasons import Reason, get
from policy.rego import split_policy
from policy.words import describe, differences

_LIMIT = 64 << 20
_KUBERNETES = "KUBERNETES_"
_POD = click.option("--pod", default=None, metavar="NAME", help="Which workload, where the YAML holds several.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One request of a file, and whether it is to be answered or only lived through."""

    endpoint: str
    request: Request
    description: str
    allowed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Denial:
    """A request that the policy denies, with where each reason comes from."""

    endpoint: str
    container: str
    reasons: tuple[tuple[Reason, Place | None], ...]

    def json(self) -> dict[str, object]:
        return {
            "endpoint": self.endpoint,
            "container": None if self.container == SANDBOX_KEY else self.container,
            "reasons": [
                {
                    "field": reason.field,
                    "seen": reason.seen,
                    "wanted": reason.wanted,
                    "source": reason.source,
                    "place": None
                    if place is None
                    else {"file": place.file, "line": place.line, "path": place.path, "written": place.written},
                    "change": advice(reason, place),
                }
                for reason, place in self.reasons
            ],
        }


@click.group(
    epilog=example(
        "contrast policy show deployment/web.yml\ncontrast policy explain deployment/web.yml --request request.json"
    )
)
def policy() -> None:
    """Read, compare and question runtime policies.

    POLICY is a file of Rego, or YAML (a file or folder) that `contrast generate` has annotated.
    """


@policy.command(
    short_help="Say why a policy denies a request, and what to change.",
    epilog=example(
        "contrast policy explain deployment/web.yml --request request.json\n"
        "contrast policy explain web.rego --yaml deployment/ --request /run/policy.jsonl\n"
        "kubectl describe pod web | contrast policy explain deployment/web.yml --request -"
    ),
)
@click.argument("policy_path", metavar="POLICY", type=PATHS)
@click.option(
    "--request",
    "request_path",
    required=True,
    type=PATHS,
    help="What was asked: JSON (a request, a list, or the agent's policy.jsonl), or a log line "
    "'… is blocked by policy: …'; - is stdin.",
)
@click.option("--endpoint", default=None, metavar="NAME", help="Of a bare request: CreateContainerRequest, …")
@click.option("--container", default=None, metavar="NAME", help="The container that a lifecycle request is about.")
@click.option("--yaml", multiple=True, type=PATHS, help="The YAML that the policy was made from, to name its lines.")
@_POD
@json_option
@click.pass_context
def explain(
    ctx: click.Context,
    *,
    policy_path: Path,
    request_path: Path,
    endpoint: str | None,
    container: str | None,
    yaml: tuple[Path, ...],
    pod: str | None,
) -> None:
    """Say why a policy denies a request: what was seen, what is wanted, which line of YAML says so, what to change.

    A single request is judged as if everything before it had been as it should be; a list is lived through in order.
    Exits 1 if something is denied.
    """
    out: Output = ctx.obj.output
    loaded = load_policy(policy_path, pod=pod, yaml=yaml)
    text = messages_of(_input(request_path))
    if not text.lstrip().startswith(("{", "[")) and '{"kind"' not in text:
        _explain_lines(out, loaded, text)
        ctx.exit(1)
    asked = [_asked(entry, endpoint, f"{request_path}: entry {n}") for n, entry in enumerate(_entries(text))]
    if not asked:
        raise RefusedError(f"{request_path}: no request in it")
    engine = PolicyEngine(loaded.text)
    found: list[_Denial] = []
    for one in asked:
        if len(asked) == 1:
            engine.restore(_assumed(loaded, one, container))
        if (denial := _denial(loaded, engine, one)) is not None:
            found.append(denial)
    out.document({"ok": not found, "assumed": len(asked) == 1, "denied": [denial.json() for denial in found]})
    for denial in found:
        _say_denial(out, denial)
    if not found:
        out.say(f"allowed: {'this request' if len(asked) == 1 else f'all {len(asked)} requests'}")
    elif len(asked) == 1:
        out.note("everything before this request was taken to be as it should be")
    ctx.exit(1 if found else 0)


@policy.command(
    short_help="Put requests to a policy, in order, as one guest.",
    epilog=example("contrast policy test deployment/web.yml requests.json"),
)
@click.argument("policy_path", metavar="POLICY", type=PATHS)
@click.argument("requests_path", metavar="REQUESTS", type=PATHS)
@_POD
@json_option
@click.pass_obj
def test(session: Session, *, policy_path: Path, requests_path: Path, pod: str | None) -> None:
    """Put requests to a policy, in order, as one guest: REQUESTS is a list of {description?, kind, request, allowed}.

    Fields that a request leaves out have protobuf's defaults. Exits 1 if an answer is not the one expected.
    """
    out = session.output
    loaded = load_policy(policy_path, pod=pod)
    asked = [
        _asked(entry, None, f"{requests_path}: entry {n}") for n, entry in enumerate(_entries(_input(requests_path)))
    ]
    engine = PolicyEngine(loaded.text)
    rows: list[tuple[bool, _Asked, bool, str]] = []
    for one in asked:
        decision = engine.allow(one.endpoint, one.request)
        wanted = True if one.allowed is None else one.allowed
        because = "" if decision.allowed else "; ".join(map(str, decision.reasons))
        rows.append((decision.allowed == wanted, one, decision.allowed, because))
    wrong = [row for row in rows if not row[0]]
    if wrong or not out.json_mode:
        out.table(
            "",
            ["", "request", "answer", "because"],
            [
                ("ok" if good else "WRONG", one.description, "allowed" if answer else "denied", because)
                for good, one, answer, because in rows
            ],
        )
    if wrong:
        details = tuple(
            clean(f"{one.description}: {'allowed' if answer else 'denied'}{because and ': '}{because}")
            for _, one, answer, because in wrong
        )
        raise DiffersError(f"{len(wrong)} of {len(rows)} answers are not the expected ones", details=details)
    out.document({"ok": True, "requests": len(rows)})
    out.say(f"{len(rows)} answers, all as expected")


@policy.command(
    epilog=example("git show HEAD^:web.rego > before.rego\ncontrast policy diff before.rego deployment/web.yml")
)
@click.argument("old", metavar="A", type=PATHS)
@click.argument("new", metavar="B", type=PATHS)
@_POD
@json_option
@click.pass_context
def diff(ctx: click.Context, *, old: Path, new: Path, pod: str | None) -> None:
    """Say in what two policies differ, in the words of Kubernetes. Exits 1 if they do."""
    out: Output = ctx.obj.output
    before, after = load_policy(old, pod=pod), load_policy(new, pod=pod)
    changes = differences(before.data, after.data)
    rules = split_policy(before.text)[0] != split_policy(after.text)[0]
    equal = before.text == after.text
    out.document({"ok": equal, "rules": rules, "changes": [change.json() for change in changes]})
    part = ""
    for change in changes:
        if change.part != part:
            part = change.part
            out.say(clean(part), style="bold")
        for sign, values in (("-", change.removed), ("+", change.added)):
            for value in values:
                out.say(f"  {sign} {clean(f'{change.field}: {value}' if change.field else value)}")
    if rules:
        forms = [demands_layers(loaded.data) for loaded in (before, after)]
        out.say(
            "the fixed rules differ: one is for images that the guest pulls, the other for layers from the node"
            if forms[0] != forms[1]
            else "the fixed rules differ: the policies were made by different versions of this program"
        )
    if equal:
        out.say("the policies are the same")
    elif not changes and not rules:
        out.say("the policies mean the same; only their layout differs, so their digests do")
    ctx.exit(0 if equal else 1)


@policy.command(
    short_help="Show what a pod may do under a policy.", epilog=example("contrast policy show deployment/web.yml")
)
@click.argument("policy_path", metavar="POLICY", type=PATHS)
@_POD
@json_option
@click.pass_obj
def show(session: Session, *, policy_path: Path, pod: str | None) -> None:
    """Show what a pod may do under a policy: whatever is not listed is denied."""
    out = session.output
    loaded = load_policy(policy_path, pod=pod)
    parts = describe(loaded.data)
    out.document({"ok": True, "parts": [part.json() for part in parts]})
    for part in parts:
        out.say(clean(part.name), style="bold")
        for fact in part.facts:
            values = fact.values
            if fact.name == "env":
                values = tuple(value for value in values if not value.startswith(_KUBERNETES))
                hidden = len(fact.values) - len(values)
                values += (f"{_KUBERNETES}… ({hidden} variables of the API server's Service)",) if hidden else ()
            first, *rest = values
            out.say(f"  {fact.name:<26}{clean(first)}")
            for value in rest:
                out.say(f"  {'':<26}{clean(value)}")


def _input(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read(_LIMIT)
    try:
        return read_file(path, what="request", limit=_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path}: byte {error.start} is not UTF-8") from None


def _entries(text: str) -> Sequence[Request]:
    try:
        return parse_requests(text)
    except ValueError as error:
        raise RefusedError(f"the requests are no JSON: {error}") from None


def _asked(entry: Request, endpoint: str | None, place: str) -> _Asked:
    kind, request, allowed = entry.get("kind"), entry.get("request"), entry.get("allowed")
    if not isinstance(kind, str) or not isinstance(request, dict):
        kind, request = endpoint or _guessed(entry), entry
    if kind is None:
        raise UsageFaultError(f"{place}: not {{kind, request}}: say with --endpoint what this request is")
    if allowed is not None and not isinstance(allowed, bool):
        raise RefusedError(f"{place}: allowed is {allowed!r}, wanted true or false")
    kind = kind if kind.endswith("Request") or kind.startswith("MemAgent") else f"{kind}Request"
    said = str(entry.get("description") or kind)
    return _Asked(endpoint=kind, request=completed(kind, request), description=said, allowed=allowed)


def _guessed(request: Request) -> str | None:
    """Some requests are known by their fields."""
    marks = {"OCI": "CreateContainer", "process": "ExecProcess", "guest_hook_path": "CreateSandbox", "path": "CopyFile"}
    marks |= {"interface": "UpdateInterface", "routes": "UpdateRoutes", "neighbors": "AddARPNeighbors"}
    return next((f"{name}Request" for mark, name in marks.items() if mark in request), None)


def _assumed(loaded: Loaded, one: _Asked, container: str | None) -> dict[str, object]:
    key = container or container_of(loaded.data, {}, one.request)
    listed = get(loaded.data, "containers")
    known = [name for name in listed if name != SANDBOX_KEY] if isinstance(listed, dict) else []
    if container is None and key == SANDBOX_KEY and "OCI" not in one.request and len(known) == 1:
        key = known[0]
    elif container is not None and container not in known:
        raise UsageFaultError(f"--container {container}: the policy knows {', '.join(known)}")
    elif container is None and one.endpoint == "ExecProcessRequest":
        raise UsageFaultError(f"say with --container where the command is to be executed: {', '.join(known)}")
    return assumed_state(loaded.data, one.endpoint, one.request, key)


def _denial(loaded: Loaded, engine: PolicyEngine, one: _Asked) -> _Denial | None:
    state = engine.state
    decision = engine.allow(one.endpoint, one.request)
    if decision.allowed:
        return None
    key = container_of(loaded.data, state, one.request)
    return _Denial(
        endpoint=one.endpoint,
        container=key,
        reasons=tuple(
            (reason, None if loaded.workload is None else place_of(reason, loaded.workload, key, one.request))
            for reason in decision.reasons
        ),
    )


def _say_denial(out: Output, denial: _Denial) -> None:
    whose = "" if denial.container == SANDBOX_KEY else f" for container {denial.container}"
    out.say(clean(f"{denial.endpoint}{whose} is denied"), style="bold")
    for reason, place in denial.reasons:
        out.say(f"  {clean(reason.field)}")
        out.say(f"    seen    {clean(reason.seen)}")
        out.say(f"    wanted  {clean(reason.wanted)}")
        out.say(f"    from    {clean(f'{place} · {reason.source}' if place is not None else reason.source)}")
        out.say(f"    change  {clean(advice(reason, place))}")


def _explain_lines(out: Output, loaded: Loaded, text: str) -> None:
    """The agent's log says which request was blocked, not what was in it: say how to see that."""
    found = list(dict.fromkeys(entry for line in text.splitlines() if (entry := blocked(line)) is not None))
    if not found:
        raise RefusedError("neither JSON nor a log line with 'is blocked by policy' in it")
    how = (
        "the log does not hold the request itself: with the agent at debug level it stands in policy.jsonl; give that "
        "file, or the request out of it, as --request"
    )
    engine = PolicyEngine(loaded.text)
    never = {
        name: any("never asked for" in reason.wanted for reason in engine.allow(name, {}).reasons) for name, _ in found
    }
    out.document(
        {
            "ok": False,
            "denied": [{"endpoint": name, "said": said, "never_allowed": never[name]} for name, said in found],
            "next": how,
        }
    )
    for name, said in found:
        out.say(clean(f"{name} is denied{f': {said}' if said and said != '[]' else ''}"), style="bold")
        out.say(
            "  no policy of this program ever allows it"
            if never[name]
            else "  allowed only as `contrast policy show` lists it"
        )
    out.note(how)
