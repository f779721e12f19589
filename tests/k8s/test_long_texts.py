"""A long text without blanks is read at once: that must change nothing but the time it takes."""

from typing import Any

import pytest

from k8s.edits import SetValue
from k8s.problems import ResourceError
from k8s.yamlfile import YamlFile

LONG = "QUJD" * 40 + "=="
PLACES = {
    "value": "a: LONG\nb: 1\n",
    "last": "a: LONG",
    "carriage return": "a: LONG\r\nb: 1\r\n",
    "comment after": "a: LONG # why\nb: 1\n",
    "comment below": "a: LONG\n# why\nb: 1\n",
    "goes on": "a: LONG\n  LONG\nb: 1\n",
    "goes on further": "a: LONG\n\n  more words\nb: 1\n",
    "words after": "a: LONG and more\nb: 1\n",
    "key": "LONG: 1\nb: 1\n",
    "key in a list": "- LONG: 1\n  b: 2\n- LONG\n",
    "flow": "a: [LONG, LONG]\nb: {c: LONG}\n",
    "flow over lines": "a: [LONG,\n  LONG\n  ]\n",
    "list": "- LONG\n- LONG\n",
    "less indented": "a:\n  b: LONG\nc: LONG\n",
    "documents": "a: LONG\n---\na: LONG\n...\n",
    "colon inside": "a: LONG:LONG\n",
    "other signs": "a: LONG,LONG#LONG\n",
    "tab after": "a: LONG\t\nb: 1\n",
    "blanks after": "a: LONG   \nb: 1\n",
    "alone": "LONG",
}


@pytest.mark.parametrize("text", PLACES.values(), ids=PLACES)
def test_a_long_text_means_what_a_short_one_means(text: str) -> None:
    long = YamlFile.parse("a.yml", text.replace("LONG", LONG).encode())
    short = YamlFile.parse("a.yml", text.replace("LONG", "SHORT").encode())
    assert [document.data for document in long.documents] == replaced([document.data for document in short.documents])
    for one, other in zip(long.documents, short.documents, strict=True):
        assert [one.line((key,)) for key in "abc"] == [other.line((key,)) for key in "abc"]


def replaced(value: Any) -> Any:
    match value:
        case str():
            return value.replace("SHORT", LONG)
        case list():
            return [replaced(item) for item in value]
        case dict():
            return {replaced(key): replaced(item) for key, item in value.items()}
        case _:
            return value


def test_a_long_text_is_replaced_in_its_place() -> None:
    file = YamlFile.parse("a.yml", f"a: {LONG}  # why\nb: {LONG}\n".encode())
    after = file.apply([SetValue(document=0, path=("b",), value=LONG + "x")])
    assert after == f"a: {LONG}  # why\nb: {LONG}x\n".encode()


def test_a_fault_after_a_long_text_has_its_line() -> None:
    with pytest.raises(ResourceError, match=r"a[.]yml:2"):
        YamlFile.parse("a.yml", f"a: {LONG}\n  b: 1\n".encode())
