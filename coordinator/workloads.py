"""What workloads ask for: challenges and certificates; and how refusals are recorded. Sets and recovers nothing."""

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog

from attestation.collateral.endorse import is_complete
from attestation.judge import ChainCache
from coordinator.admission import CHALLENGE_LIFE_MS, Challenges, PolicyRates, RefusalCounter
from coordinator.answers import Issued, Recent, certificate_answer, check_known, find_issued
from coordinator.authority import Authority, demand_valid
from coordinator.commands import RecordRefusal
from coordinator.errors import CoordinatorError
from coordinator.events import AttestationRefused
from coordinator.issuing import Asked, demand_worth, granted, prepare, read_request, refusal_code, refusal_sample
from coordinator.kernel import Kernel
from coordinator.refusals import StalePreparationError
from coordinator.settings import Settings
from coordinator.witnessing import Witnesses
from ledger.errors import LedgerError
from ledger.note import note_text
from wire.messages import CertificateRequest, CertificateResponse, ChallengeResponse, Head

_REFUSAL_CHECK_S = 30.0
log = structlog.get_logger("coordinator.workloads")


class Workloads:
    """Issues certificates. Beside what the ledger says it remembers only what two minutes forget.

    Args:
        kernel: Ledger, state, keys.
        settings: Limits, and the life of leaves.
        witnesses: In strict mode they come between recording and answering.
    """

    def __init__(self, kernel: Kernel, settings: Settings, witnesses: Witnesses) -> None:
        self._kernel = kernel
        self._witnesses = witnesses
        self._life = timedelta(days=settings.leaf_days)
        self._challenges = Challenges(bytes(kernel.epoch.mac_key))
        self._rates = PolicyRates(burst=settings.limits.policy_burst, refill_per_s=settings.limits.policy_refill_per_s)
        self._refusals = RefusalCounter()
        self._chains = ChainCache()
        self._recent = Recent(CHALLENGE_LIFE_MS)
        self._in_flight: dict[bytes, asyncio.Event] = {}
        self._wake = asyncio.Event()

    def challenge(self) -> ChallengeResponse:
        """A nonce to attest with, good for two minutes."""
        self._kernel.demand_active()
        self._kernel.demand_clock()  # Nobody need ask his secure processor for what will be refused.
        demand_valid(self._kernel.authority(), self._kernel.now())
        nonce = self._challenges.make(now_ms=self._kernel.world.monotonic_ms(), random=secrets.token_bytes(8))
        return ChallengeResponse(nonce=nonce, expires_in_ms=CHALLENGE_LIFE_MS)

    async def certificate(self, message: CertificateRequest) -> CertificateResponse:
        """One certificate per attested key and nonce: a new one, or the recorded one again."""
        try:
            return await self._certificate(message)
        except CoordinatorError as error:
            if self._kernel.phase == "active" and error.status < 500:
                self._count(error)
            raise

    def manifest_changed(self) -> None:
        """Forget the rates of policies that are gone."""
        self._rates.keep_only(self._kernel.authority().grants.__contains__)

    async def record_refusals(self) -> None:
        """At most one event per code in ten minutes; what cannot be written now is counted on."""
        while True:
            try:
                async with asyncio.timeout(_REFUSAL_CHECK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._kernel.phase != "active":
                continue
            for each in self._refusals.due(now_ms=self._kernel.now_ms()):
                event = AttestationRefused(
                    refusal=each.code,
                    count=each.count,
                    first_ms=each.first_ms,
                    last_ms=each.last_ms,
                    seen=each.seen,
                    wanted=each.wanted,
                )
                try:
                    await self._kernel.submit(RecordRefusal(event=event))
                except (CoordinatorError, LedgerError) as error:
                    self._refusals.put_back(each)
                    log.warning("refusal_not_recorded", code=each.code, why=str(error))
                except Exception:
                    # A mistake of ours about a stranger's refusal must not end the process: it would need its seed.
                    log.exception("refusal_lost", code=each.code)

    async def _certificate(self, message: CertificateRequest) -> CertificateResponse:
        self._kernel.demand_active()
        self._kernel.demand_writable()
        if message.known_head is not None:
            check_known(message.known_head, self._kernel.ledger.size)
        asked = read_request(message)
        while (other := self._in_flight.get(asked.request_id)) is not None:
            await other.wait()  # The same request is in work: its answer will be this one's, too.
        authority = self._kernel.authority()
        issued = self._recorded(asked, authority)
        if issued is not None:
            self._kernel.metrics.repeated.inc()
            # The event after the certificate may release its secret; both must be covered.
            finished = await self._witnesses.cover(min(issued.entry.body.seq + 2, self._kernel.ledger.size))
            return self._answer(issued, authority, asked, finished, message.known_head)
        self._kernel.demand_clock()
        await self._witnesses.demand_quorum()
        self._challenges.check(asked.nonce, now_ms=self._kernel.world.monotonic_ms())
        done = self._in_flight[asked.request_id] = asyncio.Event()
        try:
            issued, authority, finished, size = await self._issue(asked)
        finally:
            del self._in_flight[asked.request_id]
            done.set()
        if self._witnesses.strict:
            finished = await self._witnesses.cover(size)
        return self._answer(issued, authority, asked, finished, message.known_head)

    def _recorded(self, asked: Asked, authority: Authority) -> Issued | None:
        seq = self._recent.find(authority.generation, asked.request_id)
        entry = self._kernel.ledger.find_request(asked.request_id) if seq is None else self._kernel.ledger.entry(seq)
        return None if entry is None else find_issued(self._kernel.ledger, entry, asked, authority)

    async def _issue(self, asked: Asked) -> tuple[Issued, Authority, str, int]:
        """A new certificate, the authority that it was issued under, the note that covers it, and the size it needs."""
        again = False
        while True:
            authority = self._kernel.authority()
            demand_valid(authority, self._kernel.now())
            grant = granted(asked, authority)
            self._rates.take(grant.policy, now_ms=self._kernel.world.monotonic_ms())
            try:
                asked = await self._completed(asked, authority)
                prepared = await self._kernel.crew.do(
                    partial(
                        prepare,
                        asked,
                        grant,
                        authority,
                        checkpoint=note_text(self._kernel.finished()),
                        now=self._kernel.now(),
                        life=self._life,
                        cache=self._chains,
                    )
                )
                committed = await self._kernel.submit(prepared.command)
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
                authority.generation, asked.request_id, first.body.seq, now_ms=self._kernel.world.monotonic_ms()
            )
            self._kernel.metrics.issued.inc()
            if grant.secret_id is not None:
                self._kernel.metrics.secrets.inc()
            return (
                Issued(prepared.leaf, second, grant.policy),
                authority,
                committed.finished,
                committed.entries[-1].body.seq + 1,
            )

    async def _completed(self, asked: Asked, authority: Authority) -> Asked:
        """*asked* with what its evidence lacks: vendors are asked last, for evidence that nothing cheaper refuses."""
        world = self._kernel.world
        if world.endorser is None:
            return asked
        if not is_complete(asked.evidence):
            await self._kernel.crew.do(partial(demand_worth, asked, authority, now=self._kernel.now()))
        return replace(asked, evidence=await world.endorser.complete(asked.evidence))

    def _answer(
        self, issued: Issued, authority: Authority, asked: Asked, finished: str, known: Head | None
    ) -> CertificateResponse:
        # The authority is the one of the certificate: another manifest may have come into force a moment ago.
        secret_id = authority.grants[issued.policy].secret_id
        secret = None
        if secret_id is not None and self._kernel.seed is not None:
            secret = (secret_id, self._kernel.seed.workload_secret(secret_id))
        return certificate_answer(
            issued,
            self._kernel.ledger,
            authority,
            finished,
            secret=secret,
            hpke_public=asked.hpke_public,
            known=known,
        )

    def _count(self, error: CoordinatorError) -> None:
        seen, wanted = refusal_sample(error)
        self._refusals.count(refusal_code(error), now_ms=self._kernel.clock.now_ms(), seen=seen, wanted=wanted)
        self._wake.set()
