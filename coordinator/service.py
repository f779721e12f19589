"""What the Coordinator does when asked: attest, challenge, issue, set, recover. No HTTP here."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeVar

import structlog

from attestation.binding import Purpose, report_data
from attestation.evidence import Kind
from attestation.issuer import Issuer
from attestation.judge import ChainCache
from coordinator.admission import CHALLENGE_LIFE_MS, Challenges, PolicyRates, RefusalCounter
from coordinator.answers import (
    Issued,
    Recent,
    active_statement,
    certificate_answer,
    check_known,
    empty_statement,
    find_issued,
    note_text,
    recorded_set,
    recovery_statement,
)
from coordinator.authority import Authority, make_authority
from coordinator.commands import Command, RecordRefusal
from coordinator.decide import CoordinatorMachine
from coordinator.epoch import Epoch
from coordinator.errors import CoordinatorError, NeedsManifestError, NeedsRecoveryError, NotInRecoveryError
from coordinator.events import AttestationRefused, Event
from coordinator.issuing import Asked, granted, prepare, read_request, refusal_code
from coordinator.keys import public_bytes
from coordinator.metrics import Metrics
from coordinator.opening import Opened
from coordinator.recovering import open_seed, prepare_recovery
from coordinator.refusals import StalePreparationError
from coordinator.rules import moment
from coordinator.setting import Offered, prepare_first, prepare_update, read_offer
from coordinator.settings import Settings
from coordinator.state import State
from ledger.checkpoint import origin_of
from ledger.errors import LedgerError, StoreError
from ledger.log import Log
from ledger.writer import Committed, Writer
from manifest.authorise import genesis_previous
from wire.evidence import to_message
from wire.messages import (
    AttestRequest,
    AttestResponse,
    CertificateRequest,
    CertificateResponse,
    ChallengeResponse,
    Head,
    ManifestsResponse,
    ManifestSummary,
    RecoveryRequest,
    RecoveryResponse,
    SetManifestRequest,
    SetManifestResponse,
)
from wire.statement import statement_bytes

Phase = Literal["empty", "recovery", "active"]
CoordinatorWriter = Writer[State, Command, Event]
_T = TypeVar("_T")
_REFUSAL_CHECK_S = 30.0
log = structlog.get_logger("coordinator.service")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What only the shell may touch: clocks, threads, the secure processor."""

    issuer: Issuer = field(repr=False)
    threads: ThreadPoolExecutor
    clock_ms: Callable[[], int]
    """Unix time, milliseconds: the host's, and believed only as far as the rules allow."""
    monotonic_ms: Callable[[], int]


class Service:
    """One Coordinator. Its state is what the ledger says; beside it stand only keys, and what two minutes forget.

    Args:
        opened: The ledger as it was found.
        epoch: The keys of this process.
        settings: Limits and the life of leaves.
        world: Clocks, threads, secure processor.
        metrics: Where to count.
    """

    def __init__(self, opened: Opened, epoch: Epoch, settings: Settings, world: World, metrics: Metrics) -> None:
        self._ledger = opened.log
        self._rules = opened.rules
        self._replayed = opened.state
        self._seed = opened.seed
        self._epoch = epoch
        self._world = world
        self._metrics = metrics
        self._life = timedelta(days=settings.leaf_days)
        self._simulated = world.issuer.kind is Kind.SIMULATED
        self._challenges = Challenges(bytes(epoch.mac_key))
        self._rates = PolicyRates(burst=settings.limits.policy_burst, refill_per_s=settings.limits.policy_refill_per_s)
        self._refusals = RefusalCounter()
        self._chains = ChainCache()
        self._recent = Recent(CHALLENGE_LIFE_MS)
        self._in_flight: dict[bytes, asyncio.Event] = {}
        self._changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once commands can be taken."""
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._authority: Authority | None = None
        self._writer: CoordinatorWriter | None = None
        self._recovered: tuple[bytes, RecoveryResponse] | None = None

    # --- What it is at the moment.

    @property
    def state(self) -> State:
        """Confirmed by the store; in recovery, what the replay gave."""
        return self._replayed if self._writer is None else self._writer.state

    @property
    def ledger(self) -> Log:
        """For readers."""
        return self._ledger

    @property
    def phase(self) -> Phase:
        """``empty`` before the first manifest, ``recovery`` without a seed, else ``active``."""
        if self.state.current is None:
            return "empty"
        return "recovery" if self._seed is None else "active"

    @property
    def stopped(self) -> LedgerError | None:
        """Why nothing can be written any more, if that is so."""
        return None if self._writer is None else self._writer.stopped

    # --- Its life.

    async def run(self) -> None:
        """Write, and record refusals, until :meth:`stop`."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self._seed is not None:
                self._start_writer()
            self._show()
            self.ready.set()
            recorder = tasks.create_task(self._record_refusals())
            await self._stop.wait()
            recorder.cancel()
            if self._writer is not None:
                await self._writer.close()
        self._epoch.forget()
        self._seed = self._authority = None

    def stop(self) -> None:
        """Finish what is queued, store the finished checkpoint, forget the keys."""
        self._stop.set()

    # --- What strangers may ask in every state.

    async def attest(self, message: AttestRequest) -> AttestResponse:
        """Evidence for the client's nonce and this very statement."""
        statement = self.statement()
        evidence = await self._world.issuer.issue(report_data(Purpose.COORDINATOR, message.nonce, statement))
        return AttestResponse(statement=statement, evidence=to_message(evidence))

    def statement(self) -> bytes:
        """What this Coordinator says of itself now; the same bytes as long as nothing changes."""
        state, simulated = self.state, self._simulated
        if self._seed is not None:
            if state.current is None:
                public = public_bytes(self._seed.ledger_key())
                return statement_bytes(empty_statement(self._epoch, public, simulated=simulated))
            return statement_bytes(
                active_statement(self._epoch, state, self.authority(), self._finished(), simulated=simulated)
            )
        return statement_bytes(recovery_statement(self._epoch, state, self._ledger, self._blob, simulated=simulated))

    def manifests(self) -> ManifestsResponse:
        """The history of manifests, oldest first."""
        state = self.state
        previous = genesis_previous(state.origin)
        summaries: list[ManifestSummary] = []
        for each in state.history:
            summaries.append(
                ManifestSummary(
                    generation=each.generation,
                    manifest=each.manifest.hex(),
                    previous=previous.hex(),
                    transition=each.transition.hex(),
                    seq=each.seq,
                )
            )
            previous = each.transition
        return ManifestsResponse(manifests=tuple(summaries))

    # --- Workloads.

    def challenge(self) -> ChallengeResponse:
        """A nonce to attest with, good for two minutes."""
        self._demand_active()
        nonce = self._challenges.make(now_ms=self._world.monotonic_ms(), random=secrets.token_bytes(8))
        return ChallengeResponse(nonce=nonce, expires_in_ms=CHALLENGE_LIFE_MS)

    async def certificate(self, message: CertificateRequest) -> CertificateResponse:
        """One certificate per attested key and nonce: a new one, or the recorded one again."""
        try:
            return await self._certificate(message)
        except CoordinatorError as error:
            if self.phase == "active" and error.status < 500:
                self._count(error)
            raise

    async def _certificate(self, message: CertificateRequest) -> CertificateResponse:
        self._demand_active()
        self._demand_writable()
        if message.known_head is not None:
            check_known(message.known_head, self._ledger.size)
        asked = read_request(message)
        while (other := self._in_flight.get(asked.request_id)) is not None:
            await other.wait()  # The same request is in work: its answer will be this one's, too.
        issued = self._recorded(asked)
        if issued is not None:
            self._metrics.repeated.inc()
            return self._answer(issued, asked, self._finished(), message.known_head)
        self._challenges.check(asked.nonce, now_ms=self._world.monotonic_ms())
        done = self._in_flight[asked.request_id] = asyncio.Event()
        try:
            issued, finished = await self._issue(asked)
        finally:
            del self._in_flight[asked.request_id]
            done.set()
        return self._answer(issued, asked, finished, message.known_head)

    def _recorded(self, asked: Asked) -> Issued | None:
        authority = self.authority()
        seq = self._recent.find(authority.generation, asked.request_id)
        entry = self._ledger.find_request(asked.request_id) if seq is None else self._ledger.entry(seq)
        return None if entry is None else find_issued(self._ledger, entry, asked, authority)

    async def _issue(self, asked: Asked) -> tuple[Issued, str]:
        again = False
        while True:
            authority = self.authority()
            grant = granted(asked, authority)
            self._rates.take(grant.policy, now_ms=self._world.monotonic_ms())
            try:
                prepared = await self._in_thread(
                    partial(
                        prepare,
                        asked,
                        grant,
                        authority,
                        checkpoint=note_text(self._finished()),
                        now=self._now(),
                        life=self._life,
                        cache=self._chains,
                    )
                )
                committed = await self.submit(prepared.command)
            except StalePreparationError:
                self._rates.give_back(grant.policy)
                if again:
                    raise
                again = True
                continue
            except Exception:  # Whatever it was, this request got no certificate.
                self._rates.give_back(grant.policy)
                raise
            first, second = committed.entries[0], committed.entries[1]
            self._recent.remember(
                authority.generation, asked.request_id, first.body.seq, now_ms=self._world.monotonic_ms()
            )
            self._metrics.issued.inc()
            if grant.secret_id is not None:
                self._metrics.secrets.inc()
            return Issued(prepared.leaf, second, grant.policy), committed.finished

    def _answer(self, issued: Issued, asked: Asked, finished: str, known: Head | None) -> CertificateResponse:
        authority = self.authority()
        secret_id = authority.grants[issued.policy].secret_id
        secret = None
        if secret_id is not None and self._seed is not None:
            secret = (secret_id, self._seed.workload_secret(secret_id))
        return certificate_answer(
            issued,
            self._ledger,
            authority,
            finished,
            secret=secret,
            hpke_public=asked.hpke_public,
            known=known,
        )

    # --- The workload owner.

    async def set_manifest(self, message: SetManifestRequest) -> SetManifestResponse:
        """Bring a manifest into force, or answer again what a set of the one in force was answered."""
        async with self._changing:
            if self.phase == "recovery":
                raise NeedsRecoveryError
            self._demand_writable()
            offered = await self._in_thread(partial(read_offer, message))
            again = False
            while not self._in_force(offered):
                try:
                    await self.submit(await self._prepare_set(offered))
                except StalePreparationError:
                    if again:
                        raise
                    again = True
                    continue
                self._show()
                self._rates.keep_only(self.authority().grants.__contains__)
                log.info("manifest_set", generation=self.state.generation, transition=self.state.transition.hex())
            return recorded_set(self.state, self.authority(), self._finished())

    def _in_force(self, offered: Offered) -> bool:
        current = self.state.current
        return current is not None and (
            offered.transition == current.transition or offered.manifest.digest == current.manifest
        )

    async def _prepare_set(self, offered: Offered) -> Command:
        state, seed = self.state, self._seed
        if seed is None:
            raise NeedsRecoveryError
        if state.current is None:
            return await prepare_first(
                offered, epoch=self._epoch, seed=seed, issuer=self._world.issuer, now_ms=self._world.clock_ms()
            )
        return await self._in_thread(
            partial(
                prepare_update,
                offered,
                state,
                epoch=self._epoch,
                seed=seed,
                rules=self._rules,
                root_ca=self.authority().root_ca,
                now_ms=self._now_ms(),
            )
        )

    # --- The seed share owner.

    async def recover(self, message: RecoveryRequest) -> RecoveryResponse:
        """Take the seed, open this epoch on the replayed ledger, become active."""
        async with self._changing:
            request = hashlib.sha256(message.sealed).digest()
            if self._recovered is not None and self._recovered[0] == request:
                return self._recovered[1]
            if self.phase == "empty":
                raise NeedsManifestError
            state = self.state
            if self.phase == "active" or state.current is None:
                raise NotInRecoveryError
            manifest = self._rules.manifest(state.current.manifest)
            seed = await self._in_thread(
                partial(
                    open_seed,
                    message,
                    epoch=self._epoch,
                    state=state,
                    manifest=manifest,
                    statement=self.statement(),
                )
            )
            command = await prepare_recovery(
                message,
                epoch=self._epoch,
                state=state,
                ledger=self._ledger,
                manifest=manifest,
                issuer=self._world.issuer,
                now_ms=self._now_ms(),
            )
            self._seed = seed
            writer = self._start_writer()
            try:
                await writer.submit(command)
            except BaseException:
                self._seed = self._writer = None  # Still in recovery, as before.
                await writer.close()
                raise
            self._show()
            authority = self.authority()
            answer = RecoveryResponse(
                origin=self.state.origin,
                generation=self.state.generation,
                transition=self.state.transition.hex(),
                root_ca=authority.root_ca,
                mesh_ca=authority.mesh_ca,
                checkpoint=self._finished(),
            )
            self._recovered = (request, answer)
            log.info("recovered", size=self._ledger.size, share_owner=message.share_owner)
            return answer

    # --- Helpers.

    def authority(self) -> Authority:
        """What the manifest in force allows; built when it is first asked for after a change.

        Raises:
            NeedsManifestError, NeedsRecoveryError: Nothing is allowed yet.
        """
        held = self._authority
        state = self.state
        if held is not None and held.generation == state.generation:
            return held
        self._demand_active()
        if self._seed is None:
            raise NeedsRecoveryError
        self._authority = held = make_authority(state, self._blob, self._seed)
        return held

    def _demand_active(self) -> None:
        match self.phase:
            case "empty":
                raise NeedsManifestError
            case "recovery":
                raise NeedsRecoveryError
            case "active":
                return

    def _demand_writable(self) -> None:
        if self.stopped is not None:
            raise self.stopped

    def _start_writer(self) -> CoordinatorWriter:
        seed, tasks = self._seed, self._tasks
        if seed is None or tasks is None:
            raise RuntimeError("a writer needs the seed and a running service")
        key = seed.ledger_key()
        writer = Writer(
            self._ledger,
            CoordinatorMachine(self._rules.apply),
            self._replayed,
            epoch=self._epoch.signing,
            ledger=key,
            clock_ms=self._world.clock_ms,
            origin=origin_of(public_bytes(key)),
        )
        self._writer = writer
        tasks.create_task(writer.run())
        return writer

    async def submit(self, command: Command) -> Committed[State]:
        """Record a prepared command; returns when it is durable. Raises what deciding it or the store raised."""
        if self._writer is None:
            raise NeedsRecoveryError
        try:
            committed = await self._writer.submit(command)
        except StoreError as error:
            log.error("store_failed", code=error.code, detail=str(error))  # noqa: TRY400 - the cause is in the text.
            raise
        self._metrics.size.set(committed.size)
        return committed

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._world.threads, work)

    def _finished(self) -> str:
        finished = self._ledger.finished
        if finished is None:
            raise NeedsManifestError
        return finished

    def _blob(self, digest: bytes) -> bytes:
        data = self._ledger.blob(digest)
        if data is None:
            raise StoreError(f"the store has lost blob {digest.hex()}: restore the ledger from an export")
        return data

    def _now_ms(self) -> int:
        return max(self._world.clock_ms(), self.state.time_ms)

    def _now(self) -> datetime:
        return moment(self._now_ms())

    def _show(self) -> None:
        self._metrics.set_state(self.phase)
        self._metrics.size.set(self._ledger.size)
        self._metrics.generation.set(self.state.generation)

    def _count(self, error: CoordinatorError) -> None:
        seen, wanted = error.seen or error.detail, error.wanted or ""
        self._refusals.count(refusal_code(error), now_ms=self._world.clock_ms(), seen=seen, wanted=wanted)
        self._wake.set()

    async def _record_refusals(self) -> None:
        """At most one event per code in ten minutes; what cannot be written now is counted on."""
        while True:
            try:
                async with asyncio.timeout(_REFUSAL_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self.phase != "active":
                continue
            for each in self._refusals.due(now_ms=self._now_ms()):
                event = AttestationRefused(
                    refusal=each.code,
                    count=each.count,
                    first_ms=each.first_ms,
                    last_ms=each.last_ms,
                    seen=each.seen,
                    wanted=each.wanted,
                )
                try:
                    await self.submit(RecordRefusal(event=event))
                except (CoordinatorError, LedgerError) as error:
                    self._refusals.put_back(each)
                    log.warning("refusal_not_recorded", code=each.code, why=str(error))
