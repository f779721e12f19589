"""Looking at an LMDB file before anything is mapped. Uses ordinary reads only, and no LMDB code.

The layout is that of format 1 (LMDB 0.9): two meta pages at the beginning, the newer one holds. Numbers are those of
the machine that wrote it, as in LMDB itself.
"""

import os
import struct
from pathlib import Path
from typing import Final

from ledger.errors import LedgerContentError

# Header of a page, then MDB_meta of format 1: magic, version, address, map size, two databases, last page, transaction.
_META = struct.Struct("=16x II QQ 48s 48s QQ")
_MAGIC: Final = 0xBEEFC0DE


def check_file(file: Path) -> None:
    """Refuse a file that is no LMDB file of our format, or shorter than its own pages. Raises LedgerContentError.

    Reads 2 pages by ordinary reads, since touching a missing page of a map kills the process.
    """
    with file.open("rb") as opened:
        head = opened.read(2 * 65_536)
        size = os.fstat(opened.fileno()).st_size  # after: a writer in another process lets the file grow first
    metas = []
    page_size = 0
    for number in range(2):
        raw = head[number * page_size :][: _META.size]
        if len(raw) < _META.size:
            raise LedgerContentError(None, f"{file} is truncated: {size} bytes are less than its two first pages")
        magic, version, _, _, free_db, _, last_page, transaction = _META.unpack(raw)
        if magic != _MAGIC or version != 1:
            raise LedgerContentError(None, f"{file} is not an LMDB file of format 1: no ledger, or its head is damaged")
        (page_size,) = struct.unpack_from("=I", free_db) if number == 0 else (page_size,)
        if not 512 <= page_size <= 65_536:
            raise LedgerContentError(None, f"{file} names an impossible page size {page_size}: its head is damaged")
        metas.append((transaction, last_page))
    wanted = (max(metas)[1] + 1) * page_size
    if size < wanted:
        raise LedgerContentError(
            None, f"{file} is truncated: it has {size} bytes, its newest state needs {wanted}; restore it from a copy"
        )
