"""`contrast recover`: give a restarted Coordinator its seed back, after replaying the ledger that it found."""

import asyncio
import hashlib
import secrets
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.asymmetric import rsa

from cli.attesting import AttestedCoordinator, announce, attest, patiently, persistent
from cli.errors import RefusedError
from cli.fetch import fetch_ledger
from cli.heads import Head
from cli.keys import pkcs1, read_seedshare_owner, too_open
from cli.known_heads import ask_witnesses, ledger_key, read_known_heads, read_policy
from cli.memory import Memory, demand_extension, head_of
from cli.options import PATHS, Address, coordinator_option, manifest_option, new_ledger_option, timeout_option
from cli.output import Output
from cli.recovering import Offered, judge_offered, sealed_request
from cli.session import Session, example, json_option
from cli.shares import Shares, parse_shares
from cli.verifying import pem
from cli.workspace import apply_changes, change, read_file
from cli.yardstick import Yardstick, by_manifest, check_simulated
from coordinator.keys import Seed, public_bytes
from ledger.checkpoint import origin_of
from ledger.policyfile import Policy
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.client import CoordinatorClient
from wire.messages import RecoveryResponse
from wire.sealing import open_seed_share
from wire.statement import Unverified

PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One recovery, everything read that it needs."""

    address: Address
    manifest: Manifest
    manifest_name: str
    yardstick: Yardstick
    shares: Shares
    key: rsa.RSAPrivateKey
    new_ledger: bool
    timeout_s: float
    now: datetime
    known_paths: tuple[Path, ...] = ()
    policy: Policy | None = None
    accept_fork: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was recovered."""

    attested: AttestedCoordinator
    offered: Offered
    response: RecoveryResponse
    head: Head


@click.command(epilog=example("contrast recover -c coordinator.example.com:1313 -m manifest.json"))
@coordinator_option
@manifest_option("The manifest in force; the ledger must agree [default: manifest.json].")
@click.option(
    "--seedshare-owner-key",
    "key_path",
    type=PATHS,
    default=None,
    help="Private key that opens your share [default: seedshare-owner.pem].",
)
@click.option(
    "--seed",
    "shares_path",
    type=PATHS,
    default=None,
    help="The seed shares that the first set left [default: seed-shares.json].",
)
@click.option(
    "--allow-simulated",
    is_flag=True,
    help="Accept a simulated platform, whose anchor the manifest names. It protects nothing.",
)
@click.option(
    "--known-head",
    "known_paths",
    type=PATHS,
    multiple=True,
    help="A head that the ledger must extend: checkpoint, receipt or heads.json, of anyone (may be repeated).",
)
@click.option(
    "--witness-policy",
    "policy_path",
    type=PATHS,
    default=None,
    help="Witnesses to ask what they cosigned last; a quorum of them must answer.",
)
@click.option(
    "--accept-fork-UNSAFE",
    "accept_fork",
    is_flag=True,
    help="Go on although the ledger lacks history that is known. Signed by you, and recorded for everyone to see.",
)
@new_ledger_option
@timeout_option(PATIENCE_S)
@json_option
@click.pass_obj
def recover(
    session: Session,
    *,
    coordinator: Address,
    manifest_path: Path | None,
    key_path: Path | None,
    shares_path: Path | None,
    allow_simulated: bool,
    known_paths: tuple[Path, ...],
    policy_path: Path | None,
    accept_fork: bool,
    new_ledger: bool,
    timeout_s: float,
) -> None:
    """Give a restarted Coordinator its seed back.

    The Coordinator is judged by the manifest, and the ledger that it found is downloaded and replayed in full: it must
    be the one of your seed share, extend the one seen before at this address and every head that you or your witnesses
    know, and have this manifest in force. Only then is the seed sealed, for this one Coordinator and this one ledger.
    """
    workspace, output = session.workspace, session.output
    path = manifest_path or workspace.manifest
    manifest = parse_manifest(read_file(path, what="manifest"), name=str(path), recorded=True)
    yardstick = replace(
        by_manifest(manifest, name=str(path)),
        advice="the manifest must name it with Role coordinator; start the Coordinator from the YAML of this manifest",
    )
    check_simulated(yardstick, allowed=allow_simulated)
    owner_path = key_path or workspace.seedshare_owner_key
    for loose in too_open([owner_path]):
        output.warn(f"others on this machine may read {loose}: chmod 600 {loose}")
    seeds = shares_path or workspace.seed_shares
    job = Job(
        address=coordinator,
        manifest=manifest,
        manifest_name=str(path),
        yardstick=yardstick,
        shares=parse_shares(read_file(seeds, what="seed shares"), name=str(seeds)),
        key=read_seedshare_owner(owner_path),
        new_ledger=new_ledger,
        timeout_s=timeout_s,
        now=datetime.now(UTC),  # noqa: TID251 a command is where the clock is read
        known_paths=known_paths,
        policy=None if policy_path is None else read_policy(policy_path),
        accept_fork=accept_fork,
    )
    memory = Memory.load(workspace)
    folder = Path(tempfile.mkdtemp(prefix="contrast-recover."))
    try:
        recovered = asyncio.run(_recover(job, memory, output, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    changes = (
        *change(workspace.coordinator_root, pem(recovered.response.root_ca), what="root CA"),
        *change(workspace.mesh_root, pem(recovered.response.mesh_ca), what="mesh CA"),
        *memory.remembering(str(coordinator), recovered.head),
    )
    apply_changes(changes)
    _tell(session, recovered)


async def _recover(job: Job, memory: Memory, output: Output, folder: Path) -> Recovered:
    address = str(job.address)
    async with CoordinatorClient(address) as client:

        async def attempt() -> AttestedCoordinator:
            return await attest(client, job.yardstick, nonce=secrets.token_bytes(32), now=job.now, address=address)

        attested = await patiently(attempt, timeout_s=job.timeout_s, output=output, what=f"attesting {address}")
        announce(output, attested, job.yardstick)
        unverified = _in_recovery(attested, address)
        seed = open_seed(job.shares, job.key, unverified)
        remembered = memory.recall(address, origin=unverified.origin, new_ledger=job.new_ledger)
        ledger = ledger_key(unverified.origin, unverified.ledger_key)
        known = read_known_heads(job.known_paths, ledger)
        if job.policy is not None:
            known += await ask_witnesses(job.policy, ledger, timeout_s=min(10.0, max(job.timeout_s, 1.0)))
        with output.working("downloading and replaying the ledger"):
            await fetch_ledger(persistent(client), unverified.draft.encode(), folder)
            offered = judge_offered(
                folder,
                unverified,
                job.manifest,
                remembered,
                address=address,
                manifest_name=job.manifest_name,
                known=known,
                accept_fork=job.accept_fork,
            )
        for lost in offered.lost:
            output.banner(f"ACCEPTED ON REQUEST: the ledger does not extend {lost}. This will stand in it for ever.")
        request = sealed_request(
            seed, job.key, attested.statement, attested.statement_raw, unverified, now=job.now, lost=offered.lost
        )
        response = await client.recover(request)
        head = head_of(attested.statement, response.checkpoint)
        if response.root_ca != offered.root_ca:
            raise RefusedError("the recovered Coordinator answers with another root CA than the ledger records")
        await demand_extension(offered.head, head, persistent(client), address=address)
        return Recovered(attested=attested, offered=offered, response=response, head=head)


def _in_recovery(attested: AttestedCoordinator, address: str) -> Unverified:
    statement = attested.statement
    if statement.state == "recovery" and statement.unverified is not None:
        return statement.unverified
    if statement.state == "active":
        raise RefusedError(f"the Coordinator at {address} has its seed and is active: there is nothing to recover")
    raise RefusedError(
        f"the Coordinator at {address} found no ledger: there is nothing to recover. "
        "Give it the storage of the old one, or begin anew with `contrast set --new-ledger`"
    )


def open_seed(shares: Shares, key: rsa.RSAPrivateKey, unverified: Unverified) -> Seed:
    """Open the share of *key* and demand that it is the seed of the ledger that the Coordinator found.

    Raises:
        RefusedError: another ledger, no share of this key, or a seed that gives another ledger key.
        SealingError: the share does not open.
    """
    if shares.origin != unverified.origin:
        raise RefusedError(
            "the Coordinator found another ledger than your seed shares are of: give the shares of that one with "
            "--seed (`contrast set` keeps older ones as seed-shares.*.json), or the Coordinator its storage",
            details=(f"shares {shares.origin}", f"found  {unverified.origin}"),
        )
    owner = hashlib.sha256(pkcs1(key.public_key())).digest()
    sealed = shares.shares.get(owner)
    if sealed is None:
        raise RefusedError(
            f"none of the seed shares is of your key {owner.hex()}: give the key of one of these with "
            "--seedshare-owner-key",
            details=tuple(f"share of {other.hex()}" for other in shares.shares),
        )
    seed = Seed(*open_seed_share(sealed, key, shares.origin))
    if origin_of(public_bytes(seed.ledger_key())) != unverified.origin:
        raise RefusedError("the opened seed gives another ledger key than the one of this ledger: the share is wrong")
    return seed


def _tell(session: Session, recovered: Recovered) -> None:
    output, response = session.output, recovered.response
    output.document(
        {
            "ok": True,
            "origin": response.origin,
            "generation": response.generation,
            "transition": response.transition,
            "size": recovered.head.size,
            "root": recovered.head.root.hex(),
            "simulated": recovered.attested.statement.simulated,
        }
    )
    output.say(f"recovered to manifest {response.generation}, transition {response.transition}")
    output.say(f"ledger {response.origin}, {recovered.head.size} entries; {recovered.offered.head.size} were replayed")
    output.say("the root CA and the mesh CA are the same as before")
