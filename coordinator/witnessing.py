"""Having checkpoints cosigned: by the ledger's ML-DSA-44 key, and by witnesses. The Coordinator asks; it judges nobody.

Everything happens beside the writer. At most once in a second the newest finished checkpoint gets a line of the
ledger's ML-DSA-44 key, two COSE signatures over its root, and goes to the witnesses that the policy names. *Strict*
means that a certificate or a secret waits until a quorum has cosigned a checkpoint that covers it; then rounds follow
each other as fast as the quorum answers, and one round serves everyone who waits.

A witness that knows a longer ledger than this one is the sign of a rollback or a fork: it is said loudly, and never
overruled. In strict mode nothing leaves then.
"""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Protocol, Self

import structlog

from coordinator.commands import KeepNote
from coordinator.errors import CoordinatorError, WitnessesUnavailableError
from coordinator.kernel import Kernel
from coordinator.keys import Seed
from coordinator.witness_policy import askable
from ledger.checkpoint import Checkpoint, epoch_name, parse_checkpoint, read_checkpoint
from ledger.cose import cose_line
from ledger.errors import LedgerError, NoteError
from ledger.note import MLDSASigner, cosignature_time, note_text, open_note, split_note, with_lines
from ledger.policyfile import Policy, Witness
from ledger.witness import SIZE, write_request
from wire.problem import UnreachableError
from wire.witnesses import WitnessAnswer

ROUND_S: Final = 1.0  # between two rounds, and two ML-DSA signatures, when nobody waits
AGAIN_S: Final = 2.0  # at most, after a round without a quorum
_FIRST_AGAIN_S: Final = 0.05
MAX_NOTE_BYTES: Final = 16 * 1024  # with all lines: statements and receipts hold it
_TRIES: Final = 3
log = structlog.get_logger("coordinator.witnessing")


class Asks(Protocol):
    """The client of witnesses; open while the Coordinator runs."""

    async def __aenter__(self) -> Self:
        """Open it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    async def add_checkpoint(self, url: str, body: bytes) -> WitnessAnswer:
        """Submit a checkpoint. Raises UnreachableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessing:
    """Whom to ask, and how long to wait.

    Attributes:
        policy: None asks nobody.
        client: To ask with.
        strict: Whether certificates and secrets wait for the quorum.
        patience_s: How long one of them waits.
    """

    policy: Policy | None = None
    client: Asks | None = None
    strict: bool = False
    patience_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A finished note with the cosignatures of a quorum."""

    size: int
    note: str


@dataclass(slots=True)
class _Round:
    """One note on its way through the witnesses."""

    note: str
    text: str
    size: int
    lines: dict[str, str] = field(default_factory=dict)
    times_s: dict[str, int] = field(default_factory=dict)
    own: str = ""

    def added(self) -> str:
        """All lines that the note has gained."""
        return "".join(self.lines.values()) + self.own


class Witnesses:
    """The background task of one Coordinator."""

    def __init__(self, kernel: Kernel, how: Witnessing) -> None:
        self._kernel = kernel
        self._how = how
        self._asked = () if how.policy is None or how.client is None else askable(how.policy)
        self._sizes: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._news = asyncio.Event()  # set, and replaced, when a round ends
        self._waiting: dict[object, int] = {}
        self._busy = False  # in a round or in the pause after it: what is newest is looked at afterwards
        self._witnessed: Witnessed | None = None
        self._done = ""  # the text that was cosigned last
        self._failed = False
        self._lattice: MLDSASigner | None = None
        self._lined = ""  # the text that has the ledger's own further lines
        self._lined_at_ms = -(10**12)

    async def __aenter__(self) -> Self:
        if self._how.client is not None:
            await self._how.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._how.client is not None:
            await self._how.client.__aexit__(kind, error, trace)

    @property
    def strict(self) -> bool:
        """Whether certificates and secrets wait for a quorum."""
        return self._how.strict

    @property
    def witnessed(self) -> Witnessed | None:
        """The newest note that a quorum has cosigned."""
        return self._witnessed

    def grown(self) -> None:
        """The ledger has a newer finished checkpoint. Called for each commit: nobody is woken who will look anyway."""
        if not self._busy:
            self._wake.set()

    async def demand_quorum(self) -> None:
        """Before anything new is recorded: while the quorum is away, wait for it, so that nothing piles up unwitnessed.

        Raises:
            WitnessesUnavailableError: It did not come back in time; nothing was recorded.
        """
        if self.strict and self._failed:
            await self.cover(self._kernel.ledger.size)

    async def cover(self, size: int) -> str:
        """A finished note for receipts that covers the first *size* entries; in strict mode with a quorum's lines.

        Raises:
            WitnessesUnavailableError: No quorum in time. What was recorded stays: asking again is safe.
        """
        if not self.strict:
            return self._kernel.finished()
        me = object()
        self._waiting[me] = size
        self._wake.set()
        try:
            async with asyncio.timeout(self._how.patience_s):
                while self._witnessed is None or self._witnessed.size < size:
                    await self._news.wait()
        except TimeoutError:
            seen = 0 if self._witnessed is None else self._witnessed.size
            raise WitnessesUnavailableError(
                seen=f"a quorum for {seen} entries", wanted=f"a quorum for {size} entries"
            ) from None
        finally:
            del self._waiting[me]
        return self._witnessed.note

    async def run(self) -> None:
        """Go round until cancelled."""
        pause_s = _FIRST_AGAIN_S
        while True:
            try:
                async with asyncio.timeout(self._again_s()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self._busy = False
            note = self._kernel.ledger.finished
            if self._kernel.phase != "active" or note is None:
                continue
            text = note_text(note)
            if text == self._done == self._lined and not self._failed:
                continue
            self._busy = True
            if text != self._done or self._failed:
                await self._go_round(_bare(note))
            else:
                await self._keep(text, await self._own_lines(text))
            if self._failed:
                # Whoever waits, waits; witnesses that do not answer are not asked faster for it.
                pause_s = min(2 * pause_s, AGAIN_S)
                await asyncio.sleep(pause_s)
                self._wake.set()
                continue
            pause_s = _FIRST_AGAIN_S
            if not self._someone_waits():
                await self._pause()
            self._wake.set()

    def _again_s(self) -> float | None:
        return ROUND_S if self._done != self._lined else None

    def _someone_waits(self) -> bool:
        witnessed = 0 if self._witnessed is None else self._witnessed.size
        return any(size > witnessed for size in self._waiting.values())

    async def _pause(self) -> None:
        """A quiet second, which bounds what cosigning costs; in strict mode whoever comes ends it."""
        try:
            async with asyncio.timeout(ROUND_S):
                while not self._someone_waits():
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass

    # --- one round

    async def _go_round(self, bare: str) -> None:
        turn = _Round(bare, note_text(bare), read_checkpoint(bare.encode()).size)
        turn.own = await self._own_lines(turn.text)
        await self._ask_all(turn)
        self._failed = not self._satisfied(turn)
        if self._failed:
            log.warning("no_quorum", size=turn.size, cosigned=sorted(turn.lines))
        else:
            self._done = turn.text
        await self._keep(turn.text, turn.added())

    async def _ask_all(self, turn: _Round) -> None:
        """Ask everybody at once. A quorum is told at once; those who are slow get their time unless somebody waits."""
        async with asyncio.TaskGroup() as group:
            pending: set[asyncio.Task[object]] = {group.create_task(self._ask(each, turn)) for each in self._asked}
            while pending:
                waker = group.create_task(self._wake.wait())
                done, _ = await asyncio.wait({*pending, waker}, return_when=asyncio.FIRST_COMPLETED)
                waker.cancel()
                pending -= done
                self._wake.clear()
                if self._satisfied(turn):
                    self._publish(turn)
                    if self._someone_waits():
                        break
            for task in pending:
                task.cancel()

    def _satisfied(self, turn: _Round) -> bool:
        return self._how.policy is None or self._how.policy.satisfied_by(turn.lines)

    def _publish(self, turn: _Round) -> None:
        if self._how.policy is None:
            return
        # The quorum's lines come first: what no longer fits is one of ours.
        self._witnessed = Witnessed(turn.size, with_lines(turn.note, turn.added(), limit=MAX_NOTE_BYTES))
        self._kernel.saw_time(self._how.policy.time_of(turn.times_s))
        self._kernel.metrics.witnessed.set(turn.size)
        self._news.set()
        self._news = asyncio.Event()

    async def _ask(self, witness: Witness, turn: _Round) -> None:
        """Ask one witness, from the size that it knows."""
        why = "it did not settle on a size"
        for _ in range(_TRIES):
            old = self._sizes.get(witness.name, 0)
            try:
                answer = await self._submit(witness, turn, old)
            except (UnreachableError, LedgerError) as error:
                why = str(error)
                break
            if answer.status == HTTPStatus.OK and self._take(witness, turn, answer.body):
                self._sizes[witness.name] = turn.size
                return
            if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                # It cosigned a tree of that size which this one does not extend: a second history.
                log.error("witness_contradicts", witness=witness.name, at=old, ours=turn.size)
                self._kernel.metrics.contradictions.inc()
                return
            size = _conflict(answer)
            if size is None or size == old:
                why = f"it answered {answer.status}, or a cosignature that does not verify"
                break
            if size > turn.size:
                log.error("witness_knows_more", witness=witness.name, theirs=size, ours=turn.size)
                self._kernel.metrics.contradictions.inc()
                return
            self._sizes[witness.name] = size
        log.warning("witness_failed", witness=witness.name, why=why[:300])

    async def _submit(self, witness: Witness, turn: _Round, old: int) -> WitnessAnswer:
        if self._how.client is None:
            raise UnreachableError("there is no client for witnesses")
        proof = self._kernel.ledger.consistency(old, turn.size) if old else ()
        return await self._how.client.add_checkpoint(witness.url, write_request(old, proof, turn.note))

    def _take(self, witness: Witness, turn: _Round, body: bytes) -> bool:
        """Keep the witness's own line of *body*, if it is good. Lines of unknown keys are ignored."""
        try:
            raw = turn.text.encode() + b"\n" + body
            open_note(raw, [witness.key])
            wanted = (witness.key.name, witness.key.key_id)
            line = next(each for each in split_note(raw)[1] if (each.name, each.key_id) == wanted)
        except NoteError:
            return False
        turn.times_s[witness.name] = cosignature_time(line.signature)
        turn.lines[witness.name] = line.text()
        return True

    async def _own_lines(self, text: str) -> str:
        """The ledger's own further lines: costly ones, so never more often than once in ROUND_S."""
        now_ms, kernel = self._kernel.world.monotonic_ms(), self._kernel
        if kernel.seed is None or now_ms - self._lined_at_ms < ROUND_S * 1000:
            return ""
        self._lined_at_ms, self._lined = now_ms, text
        if self._lattice is None:
            self._lattice = MLDSASigner(kernel.state.origin, kernel.seed.ledger_mldsa_key())
        lattice, seed, time_s = self._lattice, kernel.seed, kernel.now_ms() // 1000
        checkpoint = parse_checkpoint(text)
        return await kernel.in_thread(lambda: lattice.line(text.encode(), time_s) + self._cose_lines(seed, checkpoint))

    def _cose_lines(self, seed: Seed, checkpoint: Checkpoint) -> str:
        origin, epoch = checkpoint.origin, self._kernel.epoch
        outer = cose_line(seed.ledger_key(), origin, checkpoint)
        return outer + cose_line(epoch.signing, epoch_name(origin), checkpoint)

    async def _keep(self, text: str, lines: str) -> None:
        """Serve and store the longer note, unless the ledger has gone on meanwhile."""
        ledger = self._kernel.ledger
        if not lines or ledger.finished is None or note_text(ledger.finished) != text:
            return
        longer = with_lines(ledger.finished, lines, limit=MAX_NOTE_BYTES)
        ledger.set_finished(longer)
        try:
            await self._kernel.submit(KeepNote())
        except (LedgerError, CoordinatorError) as error:
            log.warning("cosignatures_not_stored", why=str(error))


def _conflict(answer: WitnessAnswer) -> int | None:
    """The size in a 409 of the protocol, None for any other answer."""
    if answer.status != HTTPStatus.CONFLICT or answer.content_type != SIZE:
        return None
    number = answer.body.removesuffix(b"\n")
    if not number.isdigit() or len(number) > 19 or answer.body != b"%d\n" % int(number):
        return None
    return int(number)


def _bare(note: str) -> str:
    """The note with the two lines that finished it, the ledger's and the epoch's: what others added is not sent on."""
    text, lines = split_note(note.encode())
    return f"{text}\n" + "".join(line.text() for line in lines[:2])
