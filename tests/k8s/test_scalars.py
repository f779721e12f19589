"""Scalars mean what they mean to Kubernetes."""

import json
import shutil
import subprocess

import pytest

from k8s.scalars import ScalarError, key_text, number, resolve
from k8s.yamlfile import YamlFile

_CASES = {
    "yes": True, "Yes": True, "YES": True, "y": True, "Y": True, "on": True, "On": True, "ON": True, "TRUE": True,
    "no": False, "n": False, "N": False, "off": False, "Off": False, "false": False, "yEs": "yEs", "tRUE": "tRUE",
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "nULL": "nULL",
    "0": 0, "-0": 0, "017": 15, "0o17": 15, "0O7": 7, "-017": -15, "08": 8, "08.5": 8.5, "0o8": "0o8", "00": 0,
    "0x1F": 31, "-0x1F": -31, "+0x1f": 31, "0xG": "0xG", "0b11": 3, "0b102": "0b102", "0B1": 1, "-0b11": -3,
    "1_000": 1000, "1__0": 10, "1_": 1, "0_": 0, "0x_1": 1, "0x_": "0x_", "_1": "_1", "-_1": -1, "_": "_",
    "1e3": 1000, "1E5": 100000, "+12e03": 12000, "1e": "1e", "e1": "e1", "1e400": "1e400", "1e-3": 0.001, "1e+": "1e+",
    "1.5": 1.5, ".5": 0.5, "5.": 5, "+.5": 0.5, "-.5": -0.5, ".": ".", "..": "..", "1.2_3": 1.23, "1,000": "1,000",
    "12:30:45": "12:30:45", "2020-01-01": "2020-01-01", "2001-12-14t21:59:43.10-05:00": "2001-12-14t21:59:43.10-05:00",
    "9223372036854775807": 2**63 - 1, "9223372036854775808": 2**63, "-9223372036854775809": -(2**63),
    "0xFFFFFFFFFFFFFFFF": 2**64, "0x10000000000000000": "0x10000000000000000", "100000000000000000000000": 1e23,
    "1e21": 1e21, "1e20": 10**20, "nan": "nan", "inf": "inf", "Infinity": "Infinity", "=": "=", "a": "a", "+": "+",
    "1e5.": "1e5.", "0x1p4": "0x1p4", "0.1e+3": 100, "685_230.15": 685230.15, "1.1e-7": 1.1e-7,
}  # fmt: skip


@pytest.mark.parametrize(("text", "value"), _CASES.items())
def test_a_plain_scalar_has_the_type_that_kubernetes_gives_it(text: str, value: object) -> None:
    """A wrong type would make the policy describe another pod than the one that starts."""
    seen = resolve(text, tag=None, plain=True)
    assert (seen, type(seen)) == (value, type(value))


def test_quotes_and_tags_decide_before_the_content_does() -> None:
    """Quoted text must stay text, and a tag must not be ignored."""
    core = "tag:yaml.org,2002:"
    assert resolve("yes", tag=None, plain=False) == "yes"
    assert resolve("1", tag=core + "str", plain=True) == "1"
    assert resolve("7", tag=core + "int", plain=False) == 7
    assert resolve("yes", tag=core + "bool", plain=False) is True
    assert resolve("1", tag=core + "float", plain=True) == 1
    assert resolve("x", tag="!own", plain=True) == "x"
    assert resolve("2020-01-01", tag=core + "timestamp", plain=True) == "2020-01-01"
    assert resolve("aGVs\n bG8=", tag=core + "binary", plain=False) == "hello"


@pytest.mark.parametrize(
    ("text", "tag"),
    [(".inf", None), ("-.INF", None), (".nan", None), ("1.5", "int"), ("x", "int"), ("1", "bool"), ("x", "null"),
     ("", "int"), ("*", "binary"), ("/w==", "binary")],
)  # fmt: skip
def test_what_kubernetes_cannot_store_is_refused(text: str, tag: str | None) -> None:
    """Guessing here would hide a fault that the API server shows much later."""
    with pytest.raises(ScalarError):
        resolve(text, tag=tag and "tag:yaml.org,2002:" + tag, plain=True)


def test_keys_become_the_text_that_json_gives_them() -> None:
    """Two keys that are one in JSON must be seen as one."""
    assert [key_text(value) for value in (True, False, 1, "a")] == ["true", "false", "1", "a"]
    assert number(2.5) == 2.5
    with pytest.raises(ScalarError):
        key_text(None)


def test_kubectl_gives_every_scalar_the_same_value() -> None:
    """Held to the real thing, so that the table above cannot be our own invention."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on PATH: the oracle of this test")
    fields = {f"k{number}": text for number, text in enumerate(_CASES)}
    lines = [f"  {name}: {text}\n" for name, text in fields.items()]
    text = "apiVersion: x.example/v1\nkind: Odd\nmetadata:\n  name: x\nx:\n" + "".join(lines)
    command = [kubectl, "label", "--local", "-o", "json", "-f", "-", "a=b"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
    theirs = json.loads(done.stdout)["x"]
    document = YamlFile.parse("odd.yml", text.encode()).documents[0].data
    assert isinstance(document, dict)
    ours = document["x"]
    assert isinstance(ours, dict)
    for name, text in fields.items():
        big = isinstance(ours[name], int | float) and abs(ours[name]) >= 2**53  # type: ignore[arg-type]
        # kubectl prints large numbers as rounded floats; there the nearest float must be the same.
        same = float(ours[name]) == float(theirs[name]) if big else ours[name] == theirs[name]  # type: ignore[arg-type]
        assert same, (text, ours[name], theirs[name])
        assert isinstance(ours[name], bool) == isinstance(theirs[name], bool), text
