"""Judging on several cores finds what one finds, in the ledger's order, and loses no case."""

from dataclasses import replace

import pytest

from audit.cases import AttestationCase, Case, CertificateCase
from audit.jury import BATCH, FEW, Jury
from audit.reading import Reading
from ledger.entry import parse_entry
from tests.support.dishonest import Ledger, honest_ledger


class Recorder(Jury):
    """Keeps the cases and judges none."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self.cases: list[Case] = []

    def submit(self, case: Case) -> None:
        self.cases.append(case)


@pytest.fixture(scope="module")
def honest() -> Ledger:
    return honest_ledger()


def many(honest: Ledger) -> list[Case]:
    """More cases than one process judges: honest ones, and every seventh a lie."""
    recorder, source = Recorder(), honest.source()
    reading = Reading(source, recorder)
    for seq, raw in enumerate(source.raws):
        reading.visit(parse_entry(raw, seq))
    found: list[Case] = []
    for seq in range(FEW + 3 * BATCH + 5):
        case = replace(recorder.cases[seq % len(recorder.cases)], seq=seq)
        if seq % 7 == 0 and isinstance(case, AttestationCase):
            case = replace(case, nonce=bytes(32))
        if isinstance(case, CertificateCase):
            case = replace(case, seq=seq + 100)  # No leaf is older than the head that it carries.
        found.append(case)
    return found


def test_two_processes_find_what_one_finds(honest: Ledger) -> None:
    cases = many(honest)
    answers = []
    for workers in (1, 2):
        with Jury(workers=workers) as jury:
            for case in cases:
                jury.submit(case)
            answers.append((jury.faults(), sorted(jury.heads)))
            assert (jury._pool is not None) == (workers == 2)
    assert answers[0] == answers[1]
    faults, heads = answers[0]
    assert len(faults) > 20
    assert [fault.seq for fault in faults] == sorted(fault.seq for fault in faults)
    assert len(heads) == sum(isinstance(case, CertificateCase) for case in cases)


def test_few_cases_start_no_process(honest: Ledger) -> None:
    """An audit of a small ledger would take seconds to start."""
    with Jury(workers=2) as jury:
        for case in many(honest)[: FEW - 1]:
            jury.submit(case)
        assert jury.faults()
        assert jury._pool is None
