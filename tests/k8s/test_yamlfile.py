"""A person's file keeps every byte that no edit names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k8s.edits import Edit, InsertItem, SetValue, apply_to_data, first_difference
from k8s.nodes import Data
from k8s.problems import EditError, Problem, ResourceError, show_path
from k8s.yamlfile import YamlFile
from tests.support.yaml_corpus import PODS, REFUSED
from tests.support.yaml_spans import without


def check(text: str, *edits: Edit) -> str:
    file = YamlFile.parse("f.yml", text.encode())
    changed = file.apply(edits).decode()
    assert without(file.splices(edits), changed, text) == text
    return changed


@pytest.mark.parametrize("name", PODS)
def test_odd_yaml_is_read_and_without_edits_not_touched(name: str) -> None:
    """A file that cannot be read cannot be protected."""
    raw = PODS[name].encode()
    assert YamlFile.parse("f.yml", raw).apply([]) == raw


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_or_kept_is_refused_with_its_line(name: str) -> None:
    """A message without the line leaves a person searching."""
    text, line, word = REFUSED[name]
    edit = InsertItem(document=0, path=("spec", "containers", 0, "volumeMounts"), index=1, value="x")
    with pytest.raises(ResourceError) as caught:
        YamlFile.parse("f.yml", text.encode()).apply([edit])
    assert (caught.value.problems[0].line, word in str(caught.value)) == (line, True), str(caught.value)


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    """One fault a run is a slow way to a file without faults."""
    with pytest.raises(ResourceError) as caught:
        YamlFile.parse("f.yml", b"a: 1\na: 2\n---\nb: .nan\nc:\n- {d: 1, d: 2}\n")
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [(2, "a"), (4, "b"), (6, "c[0].d")]
    assert str(caught.value).startswith("f.yml:2: a: ")


@pytest.mark.parametrize(
    ("raw", "line", "word"),
    [(b"a: b\nc: \xff\n", 2, "UTF-8"), (b"\xff\xfea\x00", 0, "UTF-16"), (b"a" * (16 * 1024 * 1024 + 1), 0, "at most")],
    ids=["latin", "utf-16", "huge"],
)
def test_bytes_that_are_no_text_are_refused(raw: bytes, line: int, word: str) -> None:
    """Decoding them somehow would write other bytes back."""
    with pytest.raises(ResourceError) as caught:
        YamlFile.parse("f.yml", raw)
    assert caught.value.problems[0].line == line
    assert word in str(caught.value)


def test_lines_of_paths_are_those_a_person_sees() -> None:
    """Every message of the policy and of generate points with these."""
    file = YamlFile.parse("f.yml", b"---\n# c\na:\n  b:\n  - c: 1\n    d: |\n      x\n  - *x\n".replace(b"*x", b"e: 2"))
    document = file.documents[0]
    paths = [(), ("a",), ("a", "b"), ("a", "b", 0, "d"), ("a", "b", 1), ("a", "b", 1, "e"), ("a", "b", 7), ("z", "y")]
    assert [document.line(path) for path in paths] == [3, 3, 4, 6, 8, 8, 4, 3]
    assert show_path(("a", "b", 0, "x/y.z", "c-d")) == "a.b[0]['x/y.z'].c-d"


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        ("a: 1 # c\n", SetValue(document=0, path=("b",), value={"c": ["x"]}), "a: 1 # c\nb:\n  c:\n    - x\n"),
        ("a:\n- x # c\n", SetValue(document=0, path=("b",), value=["q"]), "a:\n- x # c\nb:\n- q\n"),
        ("a: 'x' # c\n", SetValue(document=0, path=("a",), value="it's"), "a: 'it''s' # c\n"),
        ('a: "x"\n', SetValue(document=0, path=("a",), value='y"\n'), 'a: "y\\"\\n"\n'),
        ("a: x\n", SetValue(document=0, path=("a",), value="yes"), 'a: "yes"\n'),
        ("a: x\n", SetValue(document=0, path=("a",), value="12:30"), 'a: "12:30"\n'),
        ("a: |\n  x\n  y\nb: 1\n", SetValue(document=0, path=("a",), value="z"), "a: z\nb: 1\n"),
        ("a: # c\nb: 1\n", SetValue(document=0, path=("a",), value="x"), "a: x # c\nb: 1\n"),
        ("a: # c\nb: 1\n", SetValue(document=0, path=("a",), value={"x": 1}), "a: # c\n  x: 1\nb: 1\n"),
        ("a: ~\n", SetValue(document=0, path=("a",), value={"x": 1}), "a: {x: 1}\n"),
        ("a:\n  b: 1\n  c: 2\nd: 3\n", SetValue(document=0, path=("a",), value={"x": 1}), "a:\n  x: 1\nd: 3\n"),
        ("- a\n-\n- c\n", SetValue(document=0, path=(1,), value="b"), "- a\n- b\n- c\n"),
        ("- a\n", InsertItem(document=0, path=(), index=1, value={"b": 1, "c": 2}), "- a\n- b: 1\n  c: 2\n"),
        ("- a\n", InsertItem(document=0, path=(), index=0, value="b"), "- b\n- a\n"),
        ("- - a\n  - b\n", InsertItem(document=0, path=(0,), index=0, value="c"), "- - c\n  - a\n  - b\n"),
        ("a: [x, y]\n", InsertItem(document=0, path=("a",), index=1, value="z"), "a: [x, z, y]\n"),
        ("a: &b x # c\n", SetValue(document=0, path=("a",), value="q"), "a: &b q # c\n"),
        ("a: &x 1\nb: *x\n", SetValue(document=0, path=("b",), value=2), "a: &x 1\nb: 2\n"),
    ],
)  # fmt: skip
def test_an_edit_reads_as_if_the_author_had_made_it(before: str, edit: Edit, after: str) -> None:
    """Comments, quotes and the list's indentation beside the change must stay the author's."""
    assert check(before, edit) == after


def test_several_edits_in_one_place_nest_as_meant() -> None:
    """All of these end at the same character of the file; the deeper ones must come first."""
    edits: list[Edit] = [
        SetValue(document=0, path=("spec", "z"), value=["q"]),
        InsertItem(document=0, path=("spec", "list"), index=1, value="b"),
        SetValue(document=0, path=("spec", "list", 0, "k"), value=1),
        SetValue(document=0, path=("top",), value=2),
    ]
    changed = check("spec:\n  list:\n  - a: 0", *edits)
    assert changed == "spec:\n  list:\n  - a: 0\n    k: 1\n  - b\n  z:\n  - q\ntop: 2"


@pytest.mark.parametrize(
    ("text", "edit", "word"),
    [
        ("a: &x {b: 1}\nc: *x\n", SetValue(document=0, path=("c", "b"), value=2), "*x"),
        ("a: &x 1\nb: *x\n", SetValue(document=0, path=("a",), value=2), "b would change too"),
        ("a: 1\n", SetValue(document=0, path=("b", "c"), value=2), "does not exist"),
        ("a: 1\n", SetValue(document=0, path=("a", "c"), value=2), "no mapping"),
        ("a: [1]\n", InsertItem(document=0, path=("a",), index=5, value=2), "no list"),
        ("# nothing\n---\n", SetValue(document=0, path=("a",), value=1), "empty"),
        ("a:\n- |\n  x", InsertItem(document=0, path=("a",), index=1, value="y"), "block scalar"),
    ],
)
def test_an_edit_that_would_reach_further_is_refused(text: str, edit: Edit, word: str) -> None:
    """Rather nothing than a change that nobody asked for."""
    with pytest.raises(EditError, match=word.replace("*", r"\*")):
        YamlFile.parse("f.yml", text.encode()).apply([edit])


def test_edits_that_overlap_are_refused() -> None:
    """Which of the two would win is nobody's guess."""
    edits = [SetValue(document=0, path=("a",), value=1), SetValue(document=0, path=("a", "b"), value=2)]
    with pytest.raises(EditError, match="two changes meet"):
        YamlFile.parse("f.yml", b"a: {b: 1, c: 2}\n").apply(edits)


_KEYS = st.sampled_from(["a", "b", "yes", "0x1", "key with blanks", "ключ", "x/y", "'", '"', "#", "- d", "c: e"])
_TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=12),
    st.sampled_from(
        ["yes", "1e3", "0x", "~", "", "a: b", "a #b", "- a", "{", "*a", "&a", "!a", "%a", "@", "\n", "\r\n"]
    ),
)
_VALUES: st.SearchStrategy[Data] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(value=_VALUES, name=st.sampled_from(sorted(PODS)), index=st.integers(0, 1))
def test_any_value_set_in_any_odd_file_is_read_back_and_nothing_else_changes(
    value: Data, name: str, index: int
) -> None:
    """Undoing what was inserted must give the author's bytes, whatever is written and wherever."""
    text = PODS[name]
    file = YamlFile.parse("f.yml", text.encode())
    document = next(document for document in file.documents if isinstance(document.data, dict))
    prefix: tuple[str | int, ...] = ("items", index) if name == "list" else ()
    edits = [
        SetValue(document=document.index, path=(*prefix, "spec", "new key"), value=value),
        SetValue(document=document.index, path=(*prefix, "metadata", "name"), value=value),
    ]
    changed = check(text, *edits)
    result = YamlFile.parse("f.yml", changed.encode()).documents[document.index].data
    assert first_difference(result, apply_to_data(document.data, edits)) is None


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from(list("ab:-?#&*!|>'\"{}[],%@ \t\n\r~0<\\=`.\x07é")), max_size=30))
def test_no_text_makes_the_reader_fail_other_than_by_saying_so(text: str) -> None:
    """A crash on a stranger's file tells nobody what to do."""
    raw = text.encode()
    problems: tuple[Problem, ...] | None = None
    try:
        changed = YamlFile.parse("f.yml", raw).apply([])
    except ResourceError as error:
        problems, changed = error.problems, raw
    assert problems != ()
    assert changed == raw
