"""The strict JSON reader: what it takes is JSON, what it refuses has a line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifest.jsontext import MAX_DEPTH, JsonSyntaxError, Member, Node, read_json


def plain(node: Node) -> object:
    if isinstance(node.value, tuple):
        if node.kind == "object":
            return {member.key: plain(member.node) for member in node.value if isinstance(member, Member)}
        return [plain(item) for item in node.value if isinstance(item, Node)]
    return node.value


def check_refused(text: bytes | str, *, because: str, line: int | None = None) -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        read_json(text if isinstance(text, bytes) else text.encode())
    assert because in caught.value.problem.message
    if line is not None:
        assert caught.value.problem.line == line


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64) + 1, 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1, 2]), st.booleans())
def test_every_json_value_is_read_as_it_was_written(value: object, indent: int | None, ascii_only: bool) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    node, duplicates = read_json(raw)
    assert plain(node) == value
    assert duplicates == ()


@given(st.binary(max_size=80))
def test_no_bytes_end_in_anything_but_a_value_or_a_syntax_error(raw: bytes) -> None:
    try:
        node, _ = read_json(raw)
    except JsonSyntaxError:
        return
    assert plain(node) == json.loads(raw)


@given(st.text(alphabet='{}[]",:\\u0123dD89abtrflns-.eE \n', max_size=40))
def test_what_is_accepted_is_what_the_standard_library_reads(text: str) -> None:
    """A second meaning of the same bytes would let two programs see two manifests."""
    try:
        node, duplicates = read_json(text.encode())
    except JsonSyntaxError:
        return
    if not duplicates:
        assert plain(node) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "because", "line"),
    [
        ("", "expected a value, found the end of the document", 1),
        ("{\n}\n}", "expected the end of the document", 3),
        ('{"a": 1,}', "expected a key in double quotes", 1),
        ("[1,\n2,\n]", "expected a value", 3),
        ("[1 2]", "expected ',' or ']'", 1),
        ('{"a" 1}', "expected ':'", 1),
        ("{'a': 1}", "expected a key in double quotes", 1),
        ('["a\nb"]', "control character", 1),
        ('"abc', "no closing quote", 1),
        ('"\\x"', "unknown escape", 1),
        ('"\\u12"', "four hexadecimal digits", 1),
        ('"\\ud800"', "surrogate", 1),
        ('"\\ud800\\u0041"', "surrogate", 1),
        ('"\\udc00"', "surrogate", 1),
        ("1.5", "only integers", 1),
        ("1e3", "only integers", 1),
        ("01", "does not begin with 0", 1),
        ("-", "expected a number", 1),
        ("NaN", "expected a value", 1),
        ("18446744073709551616", "larger than 64 bits", 1),
        ("1" * 5000, "larger than 64 bits", 1),
        ("[" * (MAX_DEPTH + 1), "nested deeper", 1),
        ("[" * 100_000, "nested deeper", 1),
        ("// no\n{}", "expected a value", 1),
        ("\ufeff{}", "byte order mark", 1),
        (b'{"a":\n"\xff"}', "not UTF-8", 2),
    ],
)
def test_what_is_no_strict_json_is_refused_with_its_line(text: bytes | str, because: str, line: int) -> None:
    check_refused(text, because=because, line=line)


def test_every_duplicate_key_is_reported_at_its_own_line() -> None:
    """The last one silently winning would show a reviewer another manifest than the program reads."""
    _, duplicates = read_json(b'{"a": 1,\n "b": {"c": 1,\n  "c": 2},\n "a": 3,\n "a": 4}')
    assert [(problem.path, problem.line) for problem in duplicates] == [("b.c", 3), ("a", 4), ("a", 5)]
    assert "first on line 1" in duplicates[1].message


def test_escaped_keys_that_are_one_key_are_duplicates() -> None:
    _, duplicates = read_json(rb'{"SANs": 1, "\u0053ANs": 2}')
    assert [problem.path for problem in duplicates] == ["SANs"]
