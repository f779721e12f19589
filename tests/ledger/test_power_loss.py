"""The power fails at any moment, and of what was not synced any part is lost: what was acknowledged is there."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import LedgerEmptyError
from ledger.lmdb_store import LmdbStore
from ledger.log import open_log
from tests.support.ledgers import filled
from tests.support.power import Disk, Step, record
from tests.support.strace import Acked, acknowledged, need_strace

EXAMPLES = 2000 if os.environ.get("CONTRAST_EXHAUSTIVE") else 60
MODES = ("create", "append", "blob")
Recording = tuple[bytes, list[Step]]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    need_strace()
    found: dict[str, Recording] = {}
    for mode in MODES:
        path = tmp_path_factory.mktemp(mode) / "ledger"
        before = b""
        if mode != "create":
            store = LmdbStore(path, map_size=2**26)
            filled(store, 30)
            store.close()
            before = (path / "data.mdb").read_bytes()
        found[mode] = (before, record(mode, path, path.parent / "trace"))
        kinds = [step.what for step in found[mode][1]]
        assert kinds.count("sync") >= 3
        assert kinds.count("durable write") >= 3
        assert kinds.count("say") == 3
    return found


def check_after(image: bytes | None, promised: list[Acked], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if image is not None:
        (folder / "data.mdb").write_bytes(image)
    store = LmdbStore(folder, map_size=2**26)
    try:
        try:
            log = open_log(store, workers=1)
        except LedgerEmptyError:
            assert not promised
            return
        for each in promised:
            assert log.entry(each.seq).leaf_hash == each.leaf_hash
            assert log.blob(each.blob) is not None
    finally:
        store.close()
        (folder / "data.mdb").unlink()


@pytest.mark.parametrize("mode", MODES)
def test_no_lost_write_takes_an_acknowledged_entry_along(
    mode: str, recordings: dict[str, Recording], tmp_path: Path
) -> None:
    """After an outage a pod would hold a certificate that no ledger knows, or no ledger would open."""
    before, steps = recordings[mode]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(moment=st.integers(1, len(steps)), kept=st.integers(0, 2**64 - 1))
    def lose(moment: int, kept: int) -> None:
        check_moment(before, steps[:moment], lambda number: bool(kept >> number % 64 & 1), tmp_path / "lost")

    lose()
    # And at every moment the two extremes: nothing of it survives, all of it does.
    for moment in range(1, len(steps) + 1):
        check_moment(before, steps[:moment], lambda _: False, tmp_path / "lost")
        check_moment(before, steps[:moment], lambda _: True, tmp_path / "lost")


def check_moment(before: bytes, steps: list[Step], survives: object, folder: Path) -> None:
    disk = Disk(bytearray(before), named=bool(before), named_for_good=bool(before))
    for step in steps:
        disk.take(step)
    said = [step.data.decode().strip() for step in steps if step.what == "say"]
    check_after(disk.after_power_loss(survives), acknowledged(said), folder)  # type: ignore[arg-type]
