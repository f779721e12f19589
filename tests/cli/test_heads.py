"""A ledger may grow, and nothing else: rolled back, forked and replaced are told apart, with both heads shown."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.reading import MAX_AHEAD_MS
from cli.errors import ForkedError, HeadError, RefusedError, ReplacedError, RolledBackError
from cli.heads import Head, check_extends, parse_heads, render_heads
from tests.cli.test_against_coordinator import SIMULATED, set_manifest
from tests.support.cli_world import World, live_coordinator
from tests.support.coordinator import Clock

SEEN = Head(origin="contrast.invalid/aa", ledger_key=b"k" * 32, size=5, root=b"5" * 32, checkpoint=b"note\n")
GROWN = replace(SEEN, size=9, root=b"9" * 32)


def honest(size: int) -> bytes:
    return {5: b"5" * 32, 9: b"9" * 32}[size]


@pytest.mark.parametrize("offered", [SEEN, GROWN], ids=["equal", "grown"])
def test_the_same_and_a_longer_ledger_are_accepted(offered: Head) -> None:
    check_extends(SEEN, offered, honest, address="h:1313")


def test_a_first_look_demands_nothing() -> None:
    check_extends(None, GROWN, honest, address="h:1313")


@pytest.mark.parametrize(
    ("offered", "root_at", "because"),
    [
        (replace(SEEN, size=4, root=b"4" * 32), honest, RolledBackError),
        (GROWN, lambda _: b"x" * 32, ForkedError),
        (replace(SEEN, root=b"x" * 32), lambda _: b"x" * 32, ForkedError),
        (replace(GROWN, origin="contrast.invalid/bb"), honest, ReplacedError),
        (replace(GROWN, ledger_key=b"l" * 32), honest, ReplacedError),
        (replace(SEEN, size=0), honest, RolledBackError),
    ],
    ids=["rolled back", "forked", "forked at the same size", "other origin", "other key", "emptied"],
)
def test_anything_else_is_loud_and_shows_both_heads(offered: Head, root_at: object, because: type[HeadError]) -> None:
    """Silence here is the host's chance to undo a manifest."""
    with pytest.raises(because) as caught:
        check_extends(SEEN, offered, root_at, address="h:1313")  # type: ignore[arg-type]
    assert "h:1313" in str(caught.value)
    text = "\n".join(caught.value.details)
    assert SEEN.root.hex() in text
    assert offered.root.hex() in text
    assert f"{SEEN.size} entries" in text
    assert f"{offered.size} entries" in text


def test_a_ledger_of_the_future_is_refused(tmp_path: Path) -> None:
    """What was decided at a time that has not come was judged by certificates and lists that nobody has seen."""
    world, clock = World(tmp_path), Clock()
    clock.offset_ms = 2 * MAX_AHEAD_MS
    with live_coordinator(clock=clock) as live:
        set_manifest(world, live)
        live.issue()
        before = world.files()
        for full in ((), ("--full",)):
            verify = ("verify", "-c", live.address, "-m", "manifest.json", SIMULATED, *full)
            said = world.refused(*verify, because="is dated after this moment").output
            assert f"entry {4 if full else 2} says" in said
            assert world.files() == before
        world.ok("ledger", "export", f"https://{live.address}", "copy")
        world.refused("ledger", "verify", "copy", because="is dated after this moment")


def test_only_a_replaced_ledger_mentions_the_way_out() -> None:
    """--new-ledger must not be offered to someone whose ledger was rolled back."""
    with pytest.raises(ReplacedError, match="--new-ledger"):
        check_extends(SEEN, replace(GROWN, origin="contrast.invalid/bb"), honest, address="h")
    with pytest.raises(RolledBackError) as caught:
        check_extends(SEEN, replace(SEEN, size=1), honest, address="h")
    assert "--new-ledger" not in str(caught.value)


HEAD = st.builds(
    Head,
    origin=st.text(st.characters(codec="utf-8"), max_size=20),
    ledger_key=st.binary(min_size=32, max_size=32),
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    checkpoint=st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode),
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=20), HEAD, max_size=3))
def test_what_is_written_is_read_again(heads: dict[str, Head]) -> None:
    raw = render_heads(heads)
    assert parse_heads(raw) == heads
    assert render_heads(parse_heads(raw)) == raw


def test_no_file_means_no_heads() -> None:
    assert parse_heads(None) == {}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"{" * 100_000,
        b'{"format": 2, "heads": {}}',
        b'{"format": 1, "heads": []}',
        b'{"format": 1, "heads": {"a": {}}}',
        render_heads({"a": SEEN})[:-9],
        render_heads({"a": SEEN}).replace(b'"size": 5', b'"size": -5'),
        render_heads({"a": SEEN}).replace(b'"size": 5', b'"size": true'),
        render_heads({"a": SEEN}).replace(b"6b6b", b"6b", 1),
    ],
)
def test_a_damaged_memory_is_an_error_and_never_forgotten(raw: bytes) -> None:
    """Ignoring it would make a rollback invisible, and damaging a file easy."""
    with pytest.raises(RefusedError, match=r"heads\.json is damaged"):
        parse_heads(raw)
