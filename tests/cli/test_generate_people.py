"""What `generate` tells people: pods, images, what changed since last time; on a terminal, in a pipe and as JSON."""

import json
import re
import shutil
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cli.since import folded_names
from tests.cli.test_generate import Folder, folder, generate, prepared
from tests.support.terminal import on_terminal, plain

__all__ = ["folder", "prepared"]  # Fixtures.

POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: pod-{number}}}
spec:
  runtimeClassName: contrast-cc
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{runAsUser: 7, runAsGroup: 8}}
  containers:
"""
CONTAINER = "  - {{name: c{index}, image: '{image}', command: [python3, /app/web.py, '{number}']}}\n"


def document(folder: Folder, *more: str) -> Any:
    return json.loads(folder.ok("deployment", "--json", *more).stdout)


def since(folder: Folder) -> dict[str, str]:
    return {pod["name"]: pod["since"] for pod in document(folder)["pods"]}


def test_pods_images_and_policies_are_listed_and_new(folder: Folder) -> None:
    output = generate(folder).output
    assert re.search(r"^web +[0-9a-f]{16}  new +web\[\.default\[\.svc\[\.cluster\.local\]\]\]$", output, re.MULTILINE)
    assert re.search(r"^coordinator \(Coordinator\)", output, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{16}  web +contrast\.invalid/emojivoto/web:v1$", output, re.MULTILINE)
    assert re.search(
        r"^[0-9a-f]{16}  emoji, vote-bot, voting, web +contrast\.invalid/contrast/initializer", output, re.MULTILINE
    )
    assert re.search(r"coordinator:v[0-9.]+ \(pinned now\)$", output, re.MULTILINE)
    assert "\x1b" not in output, "colours and bars are for terminals"


def test_a_second_run_has_nothing_new(folder: Folder) -> None:
    generate(folder)
    found = document(folder)
    assert {pod["since"] for pod in found["pods"]} == {"unchanged"}
    assert found["changed"] == found["removed"] == []
    assert not any(image["pinned"] for image in found["images"])
    assert {image["image"].partition("@")[1] for image in found["images"]} == {"@"}


def test_an_edited_pod_is_told_in_the_words_of_kubernetes(folder: Folder) -> None:
    generate(folder)
    folder.edit("deployment/web.yml", 'value: "8443"', 'value: "8444"')
    checked = folder.refused("--check", "deployment")
    for output in (checked, folder.ok("deployment").output):
        assert re.search(
            r"web changed\n +container web\n +- env: LISTEN_PORT=8443\n +\+ env: LISTEN_PORT=8444\n", output
        )
    assert set(since(folder).values()) == {"unchanged"}


def test_the_same_change_of_many_pods_is_told_once(folder: Folder) -> None:
    generate(folder)
    for name in ("web", "emoji", "voting", "vote-bot"):
        folder.edit(f"deployment/{name}.yml", "value: coordinator-ready", "value: coordinator-ready.other")
    folder.edit("deployment/coordinator.yml", "metadata:\n", "metadata:\n  namespace: other\n")
    output = folder.run("deployment").output
    assert output.count("container contrast-initializer") <= 2, output


def test_a_pod_that_left_the_yaml_is_told(folder: Folder) -> None:
    generate(folder)
    gone = document(folder)["pods"]
    (digest,) = [pod["policy"] for pod in gone if pod["name"] == "vote-bot"]
    (folder.root / "deployment" / "vote-bot.yml").unlink()
    with_table = folder.root.parent / "copy"
    shutil.copytree(folder.root, with_table, symlinks=True)
    said = Folder(with_table).ok("deployment").output
    assert re.search(r"^vote-bot +[0-9a-f]{16}  removed +vote-bot$", said, re.MULTILINE)
    assert document(folder)["removed"] == [{"policy": digest, "sans": ["vote-bot"]}]
    assert document(folder)["removed"] == []


def test_a_policy_of_somebody_else_is_told_as_one(folder: Folder) -> None:
    generate(folder)
    path = folder.root / "deployment" / "web.yml"
    path.write_text(re.sub(r"(agent\.policy: )\S+", r"\g<1>cGFja2FnZSBhZ2VudF9wb2xpY3kK", path.read_text()))
    assert "web changed: what it was before was not made by this program" in folder.ok("deployment").output


def test_two_hundred_pods_fit_into_a_narrow_terminal(folder: Folder) -> None:
    """No row is cut in the middle of a word, none is wider than the terminal, and what is long is summed up."""
    generate(folder)
    images = sorted({image["image"] for image in document(folder)["images"]})
    (folder.root / "deployment" / "many.yml").write_text(
        "---\n".join(
            POD.format(number=number)
            + "".join(CONTAINER.format(index=i, image=images[i % len(images)], number=number) for i in range(5))
            for number in range(200)
        )
    )
    status, output = on_terminal(60, "generate", "deployment", cwd=folder.root)
    lines = plain(output).splitlines()
    assert status == 0, output
    assert max(len(line.rstrip()) for line in lines if not line.startswith(("written:", "reference"))) <= 60
    assert sum(bool(re.match(r"pod-\d+ +[0-9a-f]{16}  new$", line.rstrip())) for line in lines) == 200
    assert any("pod-0, pod-1, pod-2 and 198 more" in line or "and 201 more" in line for line in lines)
    assert sum("computing policies" not in line for line in lines) < 450


def test_names_that_dns_makes_are_folded() -> None:
    service = ["a", "a.ns", "a.ns.svc", "a.ns.svc.cluster.local"]
    assert folded_names([*service, "b"]) == "a[.ns[.svc[.cluster.local]]], b"
    assert folded_names(["a", "a.one", "a.two"]) == "a, a.one, a.two"
    assert folded_names([]) == ""


@given(st.lists(st.sampled_from(["a", "a.b", "a.b.c", "a.c", "b", "b.a", "1.2.3.4", "ab"]), unique=True))
def test_folding_loses_no_name_and_invents_none(names: list[str]) -> None:
    found = []
    for part in folded_names(names).split(", ") if names else []:
        name = ""
        for piece in part.rstrip("]").split("["):
            name += piece
            found.append(name)
    assert sorted(found) == sorted(names)
