"""`contrast set`: attest the Coordinator, sign the transition, set the manifest, keep what it answers."""

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.asymmetric import ec

from cli.attesting import AttestedCoordinator, announce, attest, patiently, persistent
from cli.deployment import YamlPolicy, read_policies
from cli.errors import RefusedError
from cli.freshness import freshness
from cli.heads import Head
from cli.keys import read_workload_owner, too_open
from cli.memory import Memory, demand_extension, demand_no_ledger, head_of
from cli.options import (
    PATHS,
    Address,
    DigestType,
    coordinator_option,
    manifest_option,
    new_ledger_option,
    timeout_option,
)
from cli.output import Output, clean
from cli.session import Session, example, json_option
from cli.shares import parse_shares, render_shares
from cli.verifying import pem
from cli.workspace import FileChange, Workspace, apply_changes, change, read_file, read_optional
from cli.yardstick import Yardstick, by_manifest, check_simulated
from manifest.authorise import genesis_previous, key_digest, sign_transition, transition
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.client import CoordinatorClient
from wire.messages import OwnerSignature, SetManifestRequest, SetManifestResponse
from wire.statement import Statement

PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One set, everything read that it needs."""

    address: Address
    manifest: Manifest
    yardstick: Yardstick
    policies: tuple[bytes, ...]
    keys: tuple[ec.EllipticCurvePrivateKey, ...]
    previous: bytes | None
    new_ledger: bool
    timeout_s: float
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was set."""

    attested: AttestedCoordinator
    response: SetManifestResponse
    head: Head


@click.command(
    short_help="Set the manifest that decides which pods get certificates.",
    name="set",
    epilog=example("contrast set -c coordinator.example.com:1313 -m manifest.json deployment/"),
)
@coordinator_option
@manifest_option("The manifest to set [default: manifest.json].")
@click.option(
    "--workload-owner-key",
    "key_paths",
    multiple=True,
    type=PATHS,
    help="Private key to sign with, may be repeated [default: workload-owner.pem, if it is there].",
)
@click.option(
    "--latest-transition",
    type=DigestType(),
    default=None,
    help="The transition that this one must follow, else refused [default: the one in force].",
)
@click.option(
    "--allow-simulated",
    is_flag=True,
    help="Accept a simulated platform, whose anchor the manifest names. It protects nothing.",
)
@click.option(
    "--policy",
    "policy_paths",
    multiple=True,
    type=PATHS,
    help="Policy that the manifest names and the YAML has no more, as `verify` wrote it, may be repeated: that of the "
    "Coordinator which an upgrade is to replace.",
)
@new_ledger_option
@timeout_option(PATIENCE_S)
@json_option
@click.argument("paths", nargs=-1, required=True, type=PATHS)
@click.pass_obj
def set_manifest(
    session: Session,
    *,
    coordinator: Address,
    manifest_path: Path | None,
    key_paths: tuple[Path, ...],
    latest_transition: bytes | None,
    allow_simulated: bool,
    policy_paths: tuple[Path, ...],
    new_ledger: bool,
    timeout_s: float,
    paths: tuple[Path, ...],
) -> None:
    """Set the manifest that decides from now on which pods get certificates.

    The Coordinator is judged by this very manifest, and so are the YAML files: each policy of the manifest must stand
    in them, and no other. The first set creates the ledger and writes seed-shares.json; keep it together with
    seedshare-owner.pem, `contrast recover` needs both.
    """
    workspace, output = session.workspace, session.output
    path = manifest_path or workspace.manifest
    manifest = parse_manifest(read_file(path, what="manifest"), name=str(path))
    found = (*read_policies(paths), *map(_kept_policy, policy_paths))
    policies = agreed_policies(manifest, found, name=str(path))
    stale = _told_stale(paths, workspace, output)
    yardstick = replace(
        by_manifest(manifest, name=str(path)),
        advice="the manifest must name it with Role coordinator; restart the Coordinator from the YAML that `contrast "
        "generate` wrote, or let the manifest name the policy of the running one too (docs/operations.md, upgrades)",
    )
    check_simulated(yardstick, allowed=allow_simulated)
    job = Job(
        address=coordinator,
        manifest=manifest,
        yardstick=yardstick,
        policies=policies,
        keys=_keys(workspace, key_paths, manifest, output),
        previous=latest_transition,
        new_ledger=new_ledger,
        timeout_s=timeout_s,
        now=datetime.now(UTC),  # noqa: TID251 a command is where the clock is read
    )
    memory = Memory.load(workspace)
    done = asyncio.run(_set(job, memory, output))
    changes = results(workspace, done)
    apply_changes((*changes, *memory.remembering(str(coordinator), done.head)))
    _tell(session, done, changes, stale)


def _told_stale(paths: Sequence[Path], workspace: Workspace, output: Output) -> tuple[str, ...]:
    """Warn of pods that were edited after `generate`, and return them; it is the owner's to set them all the same."""
    with output.working("comparing pods with their policies"):
        found = freshness(paths, workspace)
    if found.stale:
        output.warn(
            "not what the policy was made from: edited after `contrast generate`, or that ran with other options or in "
            "another version. Run `contrast generate` first, else guests deny what differs"
        )
    for pod in found.stale:
        output.note(f"  {clean(pod)}")
    if found.unknown:
        output.note(
            f"not compared with its policy, since this machine alone cannot: {clean(', '.join(found.unknown))} "
            "(`contrast generate --check` can)"
        )
    return found.stale


def _kept_policy(path: Path) -> YamlPolicy:
    text = read_file(path, what="policy")
    return YamlPolicy(digest=hashlib.sha256(text).digest(), text=text, workload="this file", where=str(path))


def agreed_policies(manifest: Manifest, found: Sequence[YamlPolicy], *, name: str) -> tuple[bytes, ...]:
    """Return the policies to send, in the manifest's order, if YAML and manifest name the same.

    Raises:
        RefusedError: they do not; everything missing and everything too much is told.
    """
    by_digest = {policy.digest: policy for policy in found}
    lines = [
        f"{policy.where}: {policy.workload} has the policy {policy.digest.hex()}, which {name} does not name"
        for policy in by_digest.values()
        if policy.digest not in manifest.policies
    ]
    lines += [
        f"{name}: the policy {digest.hex()} ({', '.join(entry.sans)}) stands in no YAML file, and in none of --policy"
        for digest, entry in manifest.policies.items()
        if digest not in by_digest
    ]
    if lines:
        raise RefusedError(
            f"the YAML and {name} disagree: run `contrast generate` on the same files", details=tuple(lines)
        )
    return tuple(by_digest[digest].text for digest in manifest.policies)


def _keys(
    workspace: Workspace, key_paths: tuple[Path, ...], manifest: Manifest, output: Output
) -> tuple[ec.EllipticCurvePrivateKey, ...]:
    paths = key_paths or ((workspace.workload_owner_key,) if workspace.workload_owner_key.exists() else ())
    for path in too_open(paths):
        output.warn(f"others on this machine may read {path}: chmod 600 {path}")
    keys = tuple(read_workload_owner(path) for path in paths)
    named = manifest.workload_owner_key_digests
    if not named:
        output.warn("this manifest names no owner key: it can never be replaced in its ledger")
    elif not keys:
        output.warn(
            f"nothing signs this manifest: {workspace.shown(workspace.workload_owner_key)} is not there, and no "
            "--workload-owner-key was given"
        )
    elif not any(key_digest(key.public_key()) in named for key in keys):
        output.warn("this manifest names none of your keys: after it you cannot set another one")
    return keys


async def _set(job: Job, memory: Memory, output: Output) -> Done:
    address = str(job.address)
    async with CoordinatorClient(str(job.address)) as client:

        async def attempt() -> AttestedCoordinator:
            return await attest(client, job.yardstick, nonce=secrets.token_bytes(32), now=job.now, address=address)

        attested = await patiently(attempt, timeout_s=job.timeout_s, output=output, what=f"attesting {address}")
        announce(output, attested, job.yardstick)
        remembered = await _continues(attested.statement, client, memory, job, address)
        request = signed_request(
            job.manifest, job.policies, job.keys, attested.statement, previous=job.previous, now=job.now
        )

        async def send() -> SetManifestResponse:
            return await client.set_manifest(request)

        response = await patiently(send, timeout_s=job.timeout_s, output=output, what="setting the manifest")
        check_response(response, request, attested.statement)
        head = head_of(attested.statement, response.checkpoint)
        await demand_extension(remembered, head, persistent(client), address=address)
        return Done(attested=attested, response=response, head=head)


async def _continues(
    statement: Statement, client: CoordinatorClient, memory: Memory, job: Job, address: str
) -> Head | None:
    """Demand that the ledger is the one seen before, before anything is added to it; give the head that it extends."""
    if statement.state == "recovery":
        raise RefusedError(
            f"the Coordinator at {address} was restarted and has no seed: run `contrast recover` first, then set again"
        )
    remembered = memory.recall(address, origin=statement.origin or "", new_ledger=job.new_ledger)
    if statement.state == "empty":
        demand_no_ledger(remembered, address=address)
        return None
    if statement.checkpoint is None:
        raise RefusedError(f"the Coordinator at {address} attested no checkpoint")
    offered = head_of(statement, statement.checkpoint)
    await demand_extension(remembered, offered, persistent(client), address=address)
    return offered


def signed_request(
    manifest: Manifest,
    policies: tuple[bytes, ...],
    keys: Sequence[ec.EllipticCurvePrivateKey],
    statement: Statement,
    *,
    previous: bytes | None,
    now: datetime,
) -> SetManifestRequest:
    """Return the request that sets *manifest* after *previous*, else after the transition in force."""
    origin = statement.origin or ""
    before = previous
    if before is None:
        before = genesis_previous(origin) if statement.transition is None else bytes.fromhex(statement.transition)
    # The first manifest is decided by itself: without owners it takes no signature.
    signing = () if statement.state == "empty" and not manifest.workload_owner_key_digests else keys
    hashed = transition(manifest.digest, before)
    signatures = [sign_transition(key, origin, hashed) for key in signing]
    return SetManifestRequest(
        manifest=manifest.raw,
        policies=policies,
        previous=before.hex(),
        signatures=tuple(OwnerSignature(public_key=item.spki, signature=item.signature) for item in signatures),
        owner_time_ms=round(now.timestamp() * 1000),
    )


def check_response(response: SetManifestResponse, request: SetManifestRequest, statement: Statement) -> None:
    """Demand that the answer is about what was asked: this transition, or, sent again, the one in force.

    Raises:
        RefusedError: it is about another one.
    """
    asked = transition(hashlib.sha256(request.manifest).digest(), bytes.fromhex(request.previous)).hex()
    if response.transition not in {asked, statement.transition}:
        raise RefusedError(
            "the Coordinator answered for another transition than was asked for",
            details=(f"seen   {response.transition}", f"wanted {asked}"),
        )
    if statement.root_ca is not None and response.root_ca != statement.root_ca:
        raise RefusedError("the Coordinator answered with another root CA than it attested")


def results(workspace: Workspace, done: Done) -> tuple[FileChange, ...]:
    """Return the files that a successful set leaves: CA certificates, and the seed shares of a new ledger."""
    origin = done.attested.statement.origin or ""
    changes = [
        *change(workspace.coordinator_root, pem(done.response.root_ca), what="root CA"),
        *change(workspace.mesh_root, pem(done.response.mesh_ca), what="mesh CA"),
    ]
    if done.response.seed_shares:
        raw = read_optional(workspace.seed_shares, what="seed shares")
        old = None if raw is None else parse_shares(raw, name=str(workspace.seed_shares))
        if old is not None and raw is not None and old.origin != origin:
            # The shares of another ledger are its only way back: they are kept under its name.
            kept = workspace.seed_shares.with_name(f"seed-shares.{old.origin.rpartition('/')[2][:16]}.json")
            changes += change(kept, raw, what="seed shares")
        shares = {bytes.fromhex(item.owner): item.sealed for item in done.response.seed_shares}
        changes += change(workspace.seed_shares, render_shares(origin, shares), what="seed shares")
    return tuple(changes)


def _tell(session: Session, done: Done, changes: Sequence[FileChange], stale: Sequence[str]) -> None:
    output, response = session.output, done.response
    written = [session.workspace.shown(item.path) for item in changes]
    output.document(
        {
            "ok": True,
            "generation": response.generation,
            "transition": response.transition,
            "origin": done.head.origin,
            "size": done.head.size,
            "root": done.head.root.hex(),
            "simulated": done.attested.statement.simulated,
            "written": written,
            "stale": list(stale),
        }
    )
    again = " already" if done.attested.statement.transition == response.transition else ""
    output.say(f"manifest {response.generation} is in force{again}, transition {response.transition}")
    output.say(f"ledger {done.head.origin}, {done.head.size} entries")
    if written:
        output.say(f"written: {', '.join(written)}")
    if response.generation == 1 and response.seed_shares:
        output.say("keep seed-shares.json and seedshare-owner.pem: after a restart the Coordinator needs them")
