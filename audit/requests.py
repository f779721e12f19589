"""One command, one request; one request, one attestation under one manifest. It reads no blob and judges no evidence.

A nonce is drawn for one exchange, so an honest Coordinator attests key and nonce once under a manifest; a second time
is a replay that it took part in. All events of one command carry its request id (docs/formats.md, section 2).
"""

from array import array
from collections.abc import Callable
from itertools import pairwise

from audit.cases import Fault
from coordinator.events import (
    AttestationAccepted,
    AttestationRefused,
    Event,
    ForkAccepted,
    LedgerRecovered,
    ManifestSet,
)
from ledger.entry import Entry

_PREFIX = 8  # Bytes of an id that are kept; equal ones are compared in full, in the entries themselves.
_FIRST_COMMIT = 3


class Requests:
    """Watches the request ids of entries as they are read.

    Args:
        request_of: The request id of an earlier entry, by seq.
    """

    def __init__(self, request_of: Callable[[int], bytes]) -> None:
        self._request_of = request_of
        self._ids = array("Q")
        self._seqs = array("Q")
        self._before = b""
        self._faults: list[Fault] = []

    def visit(self, entry: Entry, event: Event) -> None:
        """Take the next entry."""
        seq, request_id = entry.body.seq, entry.body.request_id
        match event:
            case AttestationAccepted():
                self._ids.append(int.from_bytes(request_id[:_PREFIX], "big"))
                self._seqs.append(seq)
            case ManifestSet():
                self._conclude()
            case AttestationRefused() if request_id:
                self._fault(seq, "a count of refusals is of no single request", request_id, event)
            case _:
                pass
        inside = isinstance(event, LedgerRecovered | ForkAccepted) or 0 < seq < _FIRST_COMMIT
        if inside and request_id != self._before:
            # The later entry is the one that a signature covers; the earlier one strays.
            self._fault(seq, "the events of one command are of one request", self._before, event, request_id)
        self._before = request_id

    def faults(self) -> list[Fault]:
        """What was wrong, once everything has been read."""
        self._conclude()
        return self._faults

    def _conclude(self) -> None:
        """A manifest's time is over: look for ids that came twice."""
        order = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        for left, right in pairwise(order):
            if self._ids[left] != self._ids[right]:
                continue
            first, second = self._seqs[left], self._seqs[right]
            if self._request_of(first) == self._request_of(second):
                self._faults.append(
                    Fault(
                        second,
                        "one nonce and key are attested once under one manifest",
                        f"the same at entry {first}",
                        about=AttestationAccepted.type,
                    )
                )
        self._ids, self._seqs = array("Q"), array("Q")

    def _fault(self, seq: int, rule: str, seen: bytes, event: Event, wanted: bytes = b"") -> None:
        self._faults.append(Fault(seq, rule, seen.hex(), wanted.hex(), about=event.type))
