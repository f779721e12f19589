"""A ledger checked in pieces, here and by helpers, is judged as one that is read from its first record to its last."""

import io
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ledger import segments
from ledger.errors import LedgerContentError
from ledger.helper import READY
from ledger.lmdb_store import LmdbStore
from ledger.memory import MemoryStore
from ledger.segment_worker import serve
from ledger.segments import HEADER, Segment, check_structure
from ledger.shapes import Shapes
from ledger.source import StoredSource
from ledger.verify import replay_source
from tests.support.ledgers import chain, sealed, store_of

GOOD = chain(900)
OTHER = chain(900, start=[sealed(replace(GOOD[0].body, payload=b"another"))])[1:]
DAMAGES = {
    "none": list(GOOD),
    "swapped inside of a block": [*GOOD[:100], GOOD[101], GOOD[100], *GOOD[102:]],
    "swapped across blocks": [*GOOD[:255], GOOD[256], GOOD[255], *GOOD[257:]],
    "dropped at a border": [*GOOD[:512], *GOOD[513:]],
    "doubled": [*GOOD[:700], GOOD[699], *GOOD[700:]],
    "spliced from a border on": [*GOOD[:512], *OTHER[512:]],
    "spliced in": [*GOOD[:300], OTHER[300], *GOOD[301:]],
    "back in time": [*GOOD[:899], sealed(replace(GOOD[899].body, time_ms=5))],
    "one record": GOOD[:1],
    "a whole block": GOOD[:256],
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers and rounds for ledgers of a test's size."""
    monkeypatch.setattr(segments, "_WORTH_A_HELPER", 1)
    monkeypatch.setattr(segments, "_ROUND", 256)


def judged(check: object) -> object:
    try:
        found = check()  # type: ignore[operator]
    except LedgerContentError as error:
        return error.seq, error.reason
    return found.size, found.root, found.head, found.checkpoint_raw


@pytest.mark.parametrize("name", DAMAGES)
def test_pieces_are_judged_as_the_whole(name: str, small: None) -> None:
    """Damage at the border of two pieces would be nobody's."""
    source = StoredSource(store_of(DAMAGES[name], MemoryStore()))
    wanted = judged(lambda: replay_source(source, workers=1, check_tiles=False))
    assert judged(lambda: check_structure(source)) == wanted
    for count in range(0, 900, 256):
        segment = segments.read_segment(source, count, 256, Shapes())
        assert Segment.unpack(count, segment.pack()[4:]) == replace(segment, problem=None) or segment.problem


@pytest.mark.parametrize("name", DAMAGES)
def test_a_helper_says_what_this_process_would_say(name: str) -> None:
    """On two cores another record would be named than on one."""
    source = StoredSource(store_of(DAMAGES[name], MemoryStore()))
    answers = io.BytesIO()
    serve(source, io.BytesIO(HEADER.pack(256, 300)), answers)
    raw = answers.getvalue()
    assert raw[:1] == READY
    found, own = Segment.unpack(256, raw[5:]), segments.read_segment(source, 256, 300, Shapes())
    assert replace(found, problem=None) == replace(own, problem=None)
    assert str(found.problem) == str(own.problem)


def test_helpers_that_live_and_helpers_that_die_find_the_same(tmp_path: Path, small: None) -> None:
    """Killing a process would let records in unread."""
    path = tmp_path / "ledger"
    store = store_of(GOOD, LmdbStore(path, map_size=2**26))
    assert isinstance(store, LmdbStore)
    source = StoredSource(store)
    wanted = judged(lambda: check_structure(source))
    helpers = [segments._Helper(str(path)) for _ in range(2)]
    try:
        deadline = time.monotonic() + 60
        while not all(helper.ready() for helper in helpers):
            assert time.monotonic() < deadline, "the helpers do not start"
            time.sleep(0.01)
        found = list(segments._segments(source, 900, helpers))
        assert [segment.first for segment in found] == [0, 256, 512, 768]
        ends = segments._Ends()
        for segment in found:
            ends.join(segment)
        assert (ends.frontier.size, ends.frontier.root(), ends.head) == wanted[:3]  # type: ignore[index]
        process = helpers[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        assert list(segments._segments(source, 900, helpers)) == found
    finally:
        for helper in helpers:
            helper.stop()
    assert judged(lambda: check_structure(source, workers=2, path=path)) == wanted
    store.close()
