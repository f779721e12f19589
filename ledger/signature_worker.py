"""The helper process of ledger/signatures.py: reads signatures from its input, says which is the first bad one.

Has no key, no file and no network; ends when its input does.
"""

import sys
from typing import BinaryIO

from ledger.helper import READY
from ledger.signatures import ANSWER, COUNT, JOB_BYTES, NONE_BAD, first_bad


def serve(given: BinaryIO, answers: BinaryIO) -> None:
    """Answer chunk after chunk until *given* ends."""
    answers.write(READY)
    answers.flush()
    while len(head := given.read(COUNT.size)) == COUNT.size:
        (count,) = COUNT.unpack(head)
        raw = given.read(count * JOB_BYTES)
        if len(raw) != count * JOB_BYTES:
            return
        jobs = [
            (raw[at : at + 32], raw[at + 32 : at + 96], raw[at + 96 : at + JOB_BYTES])
            for at in range(0, len(raw), JOB_BYTES)
        ]
        bad = first_bad(jobs, 0, count)
        answers.write(ANSWER.pack(NONE_BAD if bad is None else bad))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
