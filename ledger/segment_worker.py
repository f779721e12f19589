"""The helper process of ledger/segments.py: reads records where it is told to, says what their segment shows.

Has no key and no network; ends when its input does.
"""

import sys
from pathlib import Path
from typing import BinaryIO

from ledger.helper import READY
from ledger.lmdb_store import LmdbStore
from ledger.segments import HEADER, read_segment
from ledger.shapes import Shapes
from ledger.source import DirectorySource, Source, StoredSource


def serve(source: Source, given: BinaryIO, answers: BinaryIO) -> None:
    """Answer segment after segment until *given* ends."""
    answers.write(READY)
    answers.flush()
    shapes = Shapes()
    while len(head := given.read(HEADER.size)) == HEADER.size:
        first, count = HEADER.unpack(head)
        answers.write(read_segment(source, first, count, shapes).pack())
        answers.flush()


def main(path: Path) -> None:
    """Serve the store or exported directory at *path*."""
    source = StoredSource(LmdbStore(path, readonly=True)) if LmdbStore.exists(path) else DirectorySource(path)
    serve(source, sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
