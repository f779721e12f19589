"""`contrast policy` at a terminal: denials lead to a line of YAML, differences are told in the words of Kubernetes."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.program import cli
from k8s.resources import POLICY
from tests.support.policies import IMAGE, RICH, Case, case, layered_case, simple_pod


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["policy", *map(str, arguments)], input=stdin, prog_name="contrast")


def annotated(text: str, pod: Case) -> str:
    """*text* with the policy of *pod* in the place of its note."""
    encoded = base64.b64encode(pod.policy.text.encode()).decode()
    return text.replace("annotations: {", f"annotations: {{{POLICY}: {encoded}, ", 1)


@pytest.fixture
def pod() -> Case:
    return case(RICH)


@pytest.fixture
def web(tmp_path: Path, pod: Case) -> Path:
    path = tmp_path / "web.yml"
    path.write_text(annotated(RICH, pod))
    return path


def written(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(RICH.splitlines(), 1) if text in line)


CHANGES: list[tuple[str, Any, str, str]] = [
    ("a variable", lambda r: r["OCI"]["Process"]["Env"].append("LEVEL=trace"), "{name: LEVEL, value: debug}", "env[6]"),
    ("a user", lambda r: r["OCI"]["Process"]["User"].update(UID=0), "runAsUser: 1000", "securityContext.runAsUser"),
    ("an argument", lambda r: r["OCI"]["Process"]["Args"].__setitem__(4, "x"), 'args: ["--text', "args[0]"),
    ("the image", lambda r: r["storages"][0].update(source="x@sha256:" + "0" * 64), "", "image"),
    ("a mount",
     lambda r: next(m for m in r["OCI"]["Mounts"] if m["destination"] == "/data").update(type_="x"),
     "{name: data, mountPath: /data}", "volumeMounts[4]"),
    ("a mount less",
     lambda r: r["OCI"].update(Mounts=[m for m in r["OCI"]["Mounts"] if m["destination"] != "/etc/web"]),
     "{name: config, mountPath: /etc/web}", "volumeMounts[3]"),
    ("a sysctl", lambda r: r["OCI"]["Linux"]["Sysctl"].update({"kernel.x": "1"}), "sysctls", "securityContext.sysctls"),
    ("processes", lambda r: r.update(sandbox_pidns=False), "shareProcessNamespace: true", "shareProcessNamespace"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line", "path"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_denial_names_the_line_of_yaml_that_decides(change: Any, line: str, path: str, web: Path, pod: Case) -> None:
    """What nobody can find in the YAML, nobody can correct."""
    pod.run_until("web")
    request = pod.shim.create_container("web")
    change(request)
    result = run("explain", web, "--request", written(web.with_name("r.json"), request), "--json")
    assert result.exit_code == 1, result.output
    (denial,) = json.loads(result.stdout)["denied"]
    assert (denial["endpoint"], denial["container"]) == ("CreateContainerRequest", "web")
    places = [reason["place"] for reason in denial["reasons"] if reason["place"] is not None]
    assert any(place["path"].endswith(path) and place["file"] == str(web) for place in places), denial
    if line:
        assert any(place["line"] == line_of(line) for place in places), denial
    assert all(reason["change"] and reason["seen"] and reason["wanted"] for reason in denial["reasons"])


def test_a_denial_reads_like_advice(web: Path, pod: Case, tmp_path: Path) -> None:
    pod.run_until("web")
    request = pod.shim.create_container("web")
    process: Any = request["OCI"]
    process["Process"]["Env"].append("DB_SERVICE_HOST=10.0.0.9")
    process["Process"]["Cwd"] = "/x"
    process["Hooks"] = {"Prestart": []}
    result = run(
        "explain", web, "--request", written(tmp_path / "r.json", {"kind": "CreateContainer", "request": request})
    )
    assert "CreateContainerRequest for container web is denied" in result.stdout
    assert f"web.yml:{line_of('enableServiceLinks')}: spec.template.spec.enableServiceLinks" in result.stdout
    assert "the node added it on its own" in result.stdout
    assert "workingDir (not written there)" in result.stdout
    assert "write workingDir there" in result.stdout
    assert "do not trust that node" in result.stdout
    assert "taken to be as it should be" in result.stderr


def test_an_honest_request_alone_is_allowed_whatever_container_it_is_for(pod: Case, web: Path, tmp_path: Path) -> None:
    """The past that is assumed must be one that an honest node could have had."""
    for container in pod.pod.containers:
        request = pod.shim.create_container(container.key)
        result = run("explain", web, "--request", written(tmp_path / "r.json", request))
        assert (result.exit_code, result.stdout) == (0, "allowed: this request\n"), result.output
    execute = pod.shim.exec_process("web", ("/bin/ready",))
    path = written(tmp_path / "e.json", execute)
    assert run("explain", web, "--request", path).exit_code == 2
    assert run("explain", web, "--request", path, "--container", "nobody").exit_code == 2
    assert run("explain", web, "--request", path, "--container", "web").exit_code == 0
    assert run("explain", web, "--request", path, "--container", "other").exit_code == 1


def test_a_whole_life_is_lived_through_in_order(pod: Case, web: Path, tmp_path: Path) -> None:
    life = [{"kind": endpoint, "request": request} for endpoint, request in pod.shim.life()]
    lines = "\n".join(json.dumps(entry) for entry in life)
    assert run("explain", web, "--request", "-", stdin=lines).stdout == f"allowed: all {len(life)} requests\n"
    cut = [entry for entry in life if "first" not in json.dumps(entry)]
    result = run("explain", web, "--request", written(tmp_path / "cut.json", cut))
    assert result.exit_code == 1
    assert "second only after init container first has ended" in result.stdout


def test_a_log_line_says_how_to_see_more(web: Path) -> None:
    line = 'rpc error: code = PermissionDenied desc = "SetPolicyRequest is blocked by policy: [\\"x\\"]": unknown'
    result = run("explain", web, "--request", "-", stdin=line)
    assert result.exit_code == 1
    assert "no policy of this program ever allows it" in result.stdout
    assert "policy.jsonl" in result.stderr
    document = json.loads(run("explain", web, "--request", "-", "--json", stdin=line).stdout)
    assert document["denied"][0]["endpoint"] == "SetPolicyRequest"
    assert run("explain", web, "--request", "-", stdin="nothing of interest").exit_code == 1


LOGS = [
    r'{"msg":"rpc status: PERMISSION_DENIED: \"CreateContainerRequest is blocked by policy: []\"","level":"ERRO"}',
    'Nov 24 08:00:00 n kata[7]: {"level":"ERRO","msg":"CreateContainerRequest is blocked by policy: "}',
    '{"MESSAGE":"msg=\\"CreateContainerRequest is blocked by policy: x\\"","_PID":"7"}\n{"MESSAGE":"other"}',
    '  Warning  Failed  3s  kubelet  Error:\n "CreateContainerRequest is blocked by policy: \\"[]\\"": unknown',
]


@pytest.mark.parametrize("log", LOGS)
def test_logs_of_every_kind_tell_which_request_it_was(log: str, web: Path) -> None:
    result = run("explain", web, "--request", "-", stdin=log)
    assert result.exit_code == 1
    assert result.stdout.startswith("CreateContainerRequest is denied"), result.output
    assert "allowed only as `contrast policy show` lists it" in result.stdout


def test_a_policy_as_rego_finds_its_yaml(web: Path, pod: Case, tmp_path: Path) -> None:
    rego = tmp_path / "web.rego"
    rego.write_text(pod.policy.text)
    request: Any = pod.shim.create_container("web")
    request["OCI"]["Process"]["Terminal"] = True
    path = written(tmp_path / "r.json", request)
    bare = json.loads(run("explain", rego, "--request", path, "--json").stdout)["denied"][0]["reasons"][0]
    assert bare["place"] is None
    found = json.loads(run("explain", rego, "--request", path, "--yaml", web, "--json").stdout)["denied"][0]["reasons"][
        0
    ]
    assert found["place"]["path"] == "spec.template.spec.containers[0].tty"
    assert found["place"]["written"] is False
    assert run("explain", rego, "--request", path, "--yaml", web, "--pod", "other").exit_code == 1


def test_expected_answers_are_tested(web: Path, pod: Case, tmp_path: Path) -> None:
    cases = [
        {
            "description": "the sandbox",
            "kind": "CreateSandboxRequest",
            "request": pod.shim.create_sandbox(),
            "allowed": True,
        },
        {"description": "a partial request", "kind": "StartContainerRequest", "request": {}, "allowed": False},
        {"description": "a question", "kind": "GuestDetailsRequest", "request": {}, "allowed": True},
    ]
    good = run("test", web, written(tmp_path / "good.json", cases))
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "3 answers, all as expected")
    cases[1]["allowed"] = True
    bad = run("test", web, written(tmp_path / "bad.json", cases))
    assert bad.exit_code == 1
    assert "a partial request: denied: container_id: seen" in bad.stderr
    assert json.loads(run("test", web, tmp_path / "bad.json", "--json").stdout)["code"] == "differs"


def test_differences_are_told_in_the_words_of_kubernetes(web: Path, pod: Case, tmp_path: Path) -> None:
    other = RICH.replace("value: debug", "value: trace").replace("mountPath: /data", "mountPath: /srv", 1)
    other = other.replace("- name: other\n", "- name: third\n").replace("runAsUser: 1000", "runAsUser: 1001")
    (tmp_path / "b.rego").write_text(case(other).policy.text)
    result = run("diff", web, tmp_path / "b.rego")
    assert result.exit_code == 1
    for line in (
        "  - env: LEVEL=debug", "  + env: LEVEL=trace", "  - runAsUser: 1000", "  + runAsUser: 1001",
        "  + volumeMounts: /srv (files that come from the node, writable)", "  - container other",
        "  + container third",
    ):  # fmt: skip
        assert line in result.stdout.splitlines(), result.stdout
    document = json.loads(run("diff", web, tmp_path / "b.rego", "--json").stdout)
    assert {"part": "container web", "field": "env", "removed": ["LEVEL=debug"], "added": ["LEVEL=trace"]} in document[
        "changes"
    ]
    same = run("diff", web, web)
    assert (same.exit_code, same.stdout) == (0, "the policies are the same\n")


def test_layers_are_explained_and_told_apart(web: Path, tmp_path: Path) -> None:
    """A node that hands over another layer is caught by name, and so is a run that forgot to ask for layers."""
    pod = layered_case(RICH)
    layered = tmp_path / "layered.yml"
    layered.write_text(annotated(RICH, pod))
    request = pod.shim.create_container("web")
    storages = request["storages"]
    assert isinstance(storages, list)
    assert run("explain", layered, "--request", written(tmp_path / "good.json", request)).exit_code == 0
    storages[1]["options"][3] = "io.katacontainers.fs-opt.root-hash=" + "0" * 64
    told = run("explain", layered, "--request", written(tmp_path / "bad.json", request))
    assert told.exit_code == 1
    assert "storages (layers)[1].options" in told.stdout
    assert f"layered.yml:{line_of('- name: web') + 1}: spec.template.spec.containers[0].image" in told.stdout
    differ = run("diff", web, layered)
    assert "one is for images that the guest pulls, the other for layers from the node" in " ".join(
        differ.stdout.split()
    )


def test_a_policy_is_shown_in_the_words_of_kubernetes(web: Path) -> None:
    shown = run("show", web).stdout
    for text in (
        "name                      web-<generated>-<generated>", "init container first", "sidecar container helper",
        "after second has ended", "ADDRESS=<address>", "KUBERNETES_… (8 variables", "/bin/stop now",
        "/contrast (emptyDir secrets, in the guest's memory, writable)", '"quoted" value',
    ):  # fmt: skip
        assert text in shown, shown
    parts = json.loads(run("show", web, "--json").stdout)["parts"]
    assert [part["part"] for part in parts] == [
        "pod", "init container first", "init container second", "sidecar container helper", "container other",
        "container web",
    ]  # fmt: skip
    assert parts[-1]["facts"]["image"] == [f"<any registry>/<any name>@{IMAGE.partition('@')[2]}"]


def test_what_is_no_policy_is_refused_with_a_reason(tmp_path: Path, web: Path) -> None:
    (tmp_path / "x.rego").write_text("package agent_policy\n")
    (tmp_path / "bare.yml").write_text(simple_pod())
    (tmp_path / "odd.json").write_text("{]")
    assert "no policy of this program" in run("show", tmp_path / "x.rego").stderr
    assert "run `contrast generate`" in run("show", tmp_path / "bare.yml").stderr
    assert run("show", tmp_path / "absent.rego").exit_code == 4
    assert "no JSON" in run("explain", web, "--request", tmp_path / "odd.json").stderr
    assert "--endpoint" in run("explain", web, "--request", "-", stdin="{}").stderr
    assert run("show", tmp_path).exit_code == 2  # several workloads, none named
