"""The Initializer runs as whoever must read its key, be that said by the YAML or by an image alone."""

import pytest

from cli.running_as import runs_as
from images.config import Accounts, ImageConfig, User
from images.errors import LayoutError
from images.layout import ImageStore
from images.reference import ImageReference
from k8s.resources import Workload, read_resources
from k8s.yamlfile import YamlFile

POD = "kind: Pod\nmetadata: {name: p}\nspec:\n"


class Images(ImageStore):
    """Images whose reference is what they want to run as; there is one account, and none is read without asking."""

    def __init__(self) -> None:
        super().__init__([])
        self.read: list[str] = []

    def config(self, reference: str | ImageReference, *, accounts: bool = False) -> ImageConfig:
        name = str(reference)
        if name == "absent":
            raise LayoutError("absent")
        if not accounts:
            return ImageConfig(user=name)
        self.read.append(name)
        return ImageConfig(user=name, accounts=Accounts(users=(User(name="app", uid=70, gid=71),)))


def workload(text: str) -> Workload:
    return read_resources([YamlFile.parse("f.yml", (POD + text).encode())]).workloads[0]


def asked(text: str) -> tuple[tuple[int, int] | None, list[str], list[str]]:
    images, notes = Images(), list[str]()
    return runs_as(workload(text), {}, images, notes), notes, images.read


@pytest.mark.parametrize(
    ("text", "who", "layers"),
    [
        ("  containers: [{name: a, image: '1000', securityContext: {runAsGroup: 5}}]\n", (1000, 5), []),
        ("  containers: [{name: a, image: ''}]\n", (0, 0), []),
        ("  containers: [{name: a, image: app}]\n", (70, 71), ["app"]),
        ("  containers: [{name: a, image: '70'}]\n", (70, 71), ["70"]),
        ("  securityContext: {runAsUser: 7, runAsGroup: 8}\n  containers: [{name: a, image: app}]\n", (7, 8), []),
        ("  containers: [{name: root, image: ''}, {name: b, image: app}]\n", (70, 71), ["app"]),
        ("  containers: [{name: a, image: absent}]\n", None, []),
    ],
    ids=["a number", "root", "a name", "a number in the image", "the pod", "root reads all", "no image"],
)
def test_it_runs_as_the_one_container_that_is_not_root(
    text: str, who: tuple[int, int] | None, layers: list[str]
) -> None:
    """An application of an image with USER, whose YAML says nothing of users, could not read key.pem."""
    assert asked(text) == (who, [], layers)


def test_a_container_that_is_left_without_a_key_is_named() -> None:
    both = "  containers: [{name: a, image: app}, {name: b, image: '9', securityContext: {runAsGroup: 9}}]\n"
    who, notes, _layers = asked(both)
    assert who == (70, 71)
    (note,) = notes
    assert "b cannot read it" in note
    written = both + "  initContainers: [{name: contrast-initializer, image: i}]\n"
    assert asked(written)[1] == []


def test_what_the_policy_refuses_brings_no_fault_in_a_container_that_nobody_wrote() -> None:
    assert asked("  containers: [{name: a, image: stranger}]\n")[0] == (0, 0)
