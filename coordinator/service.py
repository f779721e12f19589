"""One Coordinator: its life, what it says of itself, and what owners may do: set a manifest, bring back the seed."""

import asyncio
import hashlib
from functools import partial

import structlog

from attestation.binding import Purpose, report_data
from attestation.evidence import Kind
from coordinator.answers import active_statement, empty_statement, recorded_set, recovery_statement
from coordinator.commands import Command
from coordinator.epoch import Epoch
from coordinator.errors import NeedsManifestError, NeedsRecoveryError, NotInRecoveryError
from coordinator.kernel import Kernel, Phase, World
from coordinator.keys import public_bytes
from coordinator.metrics import Metrics
from coordinator.opening import Opened
from coordinator.recovering import open_seed, prepare_recovery
from coordinator.refusals import StalePreparationError
from coordinator.setting import Offered, prepare_first, prepare_update, read_offer
from coordinator.settings import Settings
from coordinator.state import State
from coordinator.witnessing import Witnesses, Witnessing
from coordinator.workloads import Workloads
from ledger.errors import LedgerError
from ledger.log import Log
from manifest.authorise import genesis_previous
from wire.evidence import to_message
from wire.messages import (
    AttestRequest,
    AttestResponse,
    ManifestsResponse,
    ManifestSummary,
    RecoveryRequest,
    RecoveryResponse,
    SetManifestRequest,
    SetManifestResponse,
)
from wire.statement import statement_bytes

__all__ = ["Service", "World"]
log = structlog.get_logger("coordinator.service")


class Service:
    """One Coordinator. Its state is what the ledger says; beside it stand only keys.

    Args:
        opened: The ledger as it was found.
        epoch: The keys of this process.
        settings: Limits and the life of leaves.
        world: Clocks, threads, secure processor.
        metrics: Where to count.
        witnessing: Whom to ask for cosignatures; nobody by default.
    """

    def __init__(
        self,
        opened: Opened,
        epoch: Epoch,
        settings: Settings,
        world: World,
        metrics: Metrics,
        *,
        witnessing: Witnessing | None = None,
    ) -> None:
        self._kernel = Kernel(opened, epoch, world, metrics)
        self.witnesses = Witnesses(self._kernel, witnessing or Witnessing())
        self._kernel.grown = self.witnesses.grown
        self.workloads = Workloads(self._kernel, settings, self.witnesses)
        self.ready = asyncio.Event()
        """Set once commands can be taken."""
        self._simulated = world.issuer.kind is Kind.SIMULATED
        self._changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._recovered: tuple[bytes, RecoveryResponse] | None = None

    # --- What it is at the moment.

    @property
    def kernel(self) -> Kernel:
        """Ledger, state and keys, for programs that prepare commands themselves."""
        return self._kernel

    @property
    def state(self) -> State:
        """Confirmed by the store; in recovery, what the replay gave."""
        return self._kernel.state

    @property
    def ledger(self) -> Log:
        """For readers."""
        return self._kernel.ledger

    @property
    def phase(self) -> Phase:
        """``empty`` before the first manifest, ``recovery`` without a seed, else ``active``."""
        return self._kernel.phase

    @property
    def replaced(self) -> bool:
        """Whether another Coordinator has closed this one's epoch."""
        return self._kernel.replaced

    @property
    def stopped(self) -> LedgerError | None:
        """Why nothing can be written any more, if that is so."""
        return self._kernel.stopped

    # --- Its life.

    async def run(self) -> None:
        """Write, and record refusals, until :meth:`stop`."""
        async with self.witnesses, asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self._kernel.seed is not None:
                self._kernel.start_writer(self._kernel.seed, tasks)
            self._kernel.show()
            self.ready.set()
            helpers = [
                tasks.create_task(self.workloads.record_refusals()),
                tasks.create_task(self.witnesses.run()),
            ]
            await self._stop.wait()
            for helper in helpers:
                helper.cancel()
            await self._kernel.close()
        self._kernel.forget()

    def stop(self) -> None:
        """Finish what is queued, store the finished checkpoint, forget the keys."""
        self._stop.set()

    # --- What strangers may ask in every state.

    async def attest(self, message: AttestRequest) -> AttestResponse:
        """Evidence for the client's nonce and this very statement."""
        statement = self.statement()
        evidence = await self._kernel.world.issuer.issue(report_data(Purpose.COORDINATOR, message.nonce, statement))
        return AttestResponse(statement=statement, evidence=to_message(evidence))

    def statement(self) -> bytes:
        """What this Coordinator says of itself now; the same bytes as long as nothing changes."""
        state, simulated = self.state, self._simulated
        epoch, seed, phase = self._kernel.epoch, self._kernel.seed, self.phase
        if self._kernel.replaced:
            raise NeedsRecoveryError(
                "Another Coordinator has replaced this one.", action="Ask the other; restart this."
            )
        if phase == "empty" and seed is not None:
            return statement_bytes(empty_statement(epoch, public_bytes(seed.ledger_key()), simulated=simulated))
        if phase == "active":
            return statement_bytes(
                active_statement(epoch, state, self._kernel.authority(), self._kernel.finished(), simulated=simulated)
            )
        return statement_bytes(
            recovery_statement(
                epoch, state, self._kernel.ledger, self._kernel.blob, draft=self._kernel.draft, simulated=simulated
            )
        )

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

    # --- The workload owner.

    async def set_manifest(self, message: SetManifestRequest) -> SetManifestResponse:
        """Bring a manifest into force, or answer again what a set of the one in force was answered."""
        async with self._changing:
            if self.phase == "recovery":
                raise NeedsRecoveryError
            self._kernel.demand_writable()
            offered = await self._kernel.in_thread(partial(read_offer, message))
            if not self._in_force(offered):
                self._check_clock(message.owner_time_ms)
            again = False
            while not self._in_force(offered):
                try:
                    await self._kernel.submit(await self._prepare_set(offered))
                except StalePreparationError:
                    if again:
                        raise
                    again = True
                    continue
                self._kernel.show()
                self.workloads.manifest_changed()
                log.info("manifest_set", generation=self.state.generation, transition=self.state.transition.hex())
            return recorded_set(self.state, self._kernel.authority(), self._kernel.finished())

    def _check_clock(self, owner_time_ms: int | None) -> None:
        """An owner acts: from here on elapsed time counts, if no manifest is in force by this epoch yet."""
        clock = self._kernel.clock
        clock.compare(owner_time_ms)
        if self.phase != "active":
            clock.rebase()
        self._kernel.demand_clock()

    def _in_force(self, offered: Offered) -> bool:
        current = self.state.current
        return current is not None and (
            offered.transition == current.transition or offered.manifest.digest == current.manifest
        )

    async def _prepare_set(self, offered: Offered) -> Command:
        state, seed = self.state, self._kernel.seed
        if seed is None:
            raise NeedsRecoveryError
        if state.current is None:
            return await prepare_first(
                offered,
                epoch=self._kernel.epoch,
                seed=seed,
                issuer=self._kernel.world.issuer,
                now_ms=self._kernel.clock.now_ms(),
            )
        return await self._kernel.in_thread(
            partial(
                prepare_update,
                offered,
                state,
                epoch=self._kernel.epoch,
                seed=seed,
                rules=self._kernel.rules,
                root_ca=self._kernel.authority().root_ca,
                now_ms=self._kernel.now_ms(),
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
            self._kernel.demand_writable()
            if self._kernel.seed is not None:
                raise NotInRecoveryError(
                    "This Coordinator's epoch was closed by a later one.", action="Start this Coordinator again."
                )
            manifest = self._kernel.rules.manifest(state.current.manifest)
            seed = await self._kernel.in_thread(
                partial(
                    open_seed,
                    message,
                    epoch=self._kernel.epoch,
                    state=state,
                    manifest=manifest,
                    statement=self.statement(),
                    blob=self._kernel.blob,
                )
            )
            self._check_clock(message.owner_time_ms)
            command = await prepare_recovery(
                message,
                epoch=self._kernel.epoch,
                state=state,
                ledger=self._kernel.ledger,
                manifest=manifest,
                issuer=self._kernel.world.issuer,
                now_ms=self._kernel.now_ms(),
            )
            if self._tasks is None:
                raise RuntimeError("the service does not run")
            writer = self._kernel.start_writer(seed, self._tasks)
            try:
                await writer.submit(command)
            except BaseException:
                await self._kernel.drop_writer(writer)  # Still in recovery, as before.
                raise
            self._kernel.show()
            authority = self._kernel.authority()
            answer = RecoveryResponse(
                origin=self.state.origin,
                generation=self.state.generation,
                transition=self.state.transition.hex(),
                root_ca=authority.root_ca,
                mesh_ca=authority.mesh_ca,
                checkpoint=self._kernel.finished(),
            )
            self._recovered = (request, answer)
            log.info("recovered", size=self._kernel.ledger.size, share_owner=message.share_owner)
            return answer
