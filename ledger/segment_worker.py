"""The helper process of ledger/segments.py: reads records from its input, says what their segment shows.

Has no key, no file and no network; ends when its input does.
"""

import struct
import sys
from itertools import accumulate, pairwise
from typing import BinaryIO

from ledger.helper import READY
from ledger.segments import HEADER, check_segment
from ledger.shapes import Shapes


def serve(given: BinaryIO, answers: BinaryIO) -> None:
    """Answer segment after segment until *given* ends."""
    answers.write(READY)
    answers.flush()
    shapes = Shapes()
    while len(head := given.read(HEADER.size)) == HEADER.size:
        first, count = HEADER.unpack(head)
        packed = given.read(4 * count)
        if len(packed) != 4 * count:
            return
        lengths = struct.unpack(f">{count}I", packed)
        raw = given.read(sum(lengths))
        if len(raw) != sum(lengths):
            return
        raws = [raw[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
        answers.write(check_segment(raws, first, shapes).pack())
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
