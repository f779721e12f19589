"""`contrast verify`: attest the Coordinator, fetch and replay its ledger, and only then write down what to trust."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.replay import cosigned_in
from cli.attesting import AttestedCoordinator, announce, attest, demand_active, patiently, persistent
from cli.cosigned import demand_quorum, read_asked, witness_policy_option
from cli.differences import differences
from cli.errors import DiffersError, LocalFileError, RefusedError
from cli.fetch import fetch_ledger
from cli.fetch_control import fetch_control
from cli.heads import Head
from cli.judging import policy_file
from cli.memory import Memory
from cli.options import (
    PATHS,
    Address,
    coordinator_option,
    judging_options,
    manifest_option,
    new_ledger_option,
    timeout_option,
)
from cli.output import Output
from cli.release import release
from cli.session import Session, example, json_option
from cli.verify_answer import Answer
from cli.verifying import Verified, control_head, demand_past, verify_control, verify_ledger, write_results
from cli.workspace import Workspace, apply_changes, read_file, replace_folder
from cli.yardstick import Yardstick, by_manifest, by_values, check_simulated
from ledger.cosigned import Asked
from ledger.source import DirectorySource, Source
from manifest.model import Manifest
from manifest.parse import parse_manifest
from wire.client import CoordinatorClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One verification, everything read that it needs."""

    address: Address
    yardstick: Yardstick
    expected: tuple[str, Manifest] | None
    timeout_s: float
    new_ledger: bool
    full: bool
    now: datetime
    witnesses: Asked | None


@click.command(
    epilog=example(
        """contrast verify -c coordinator.example.com:1313 -m manifest.json
curl --cacert ./verify/mesh-root.pem https://web.example.com/"""
    )
)
@coordinator_option
@manifest_option("The manifest that you expect; differences are listed, and nothing is written.")
@click.option(
    "--reference-values",
    "reference_path",
    type=PATHS,
    default=None,
    help="File with reference values, instead of those released with this program.",
)
@judging_options
@witness_policy_option
@click.option("--full", is_flag=True, help="Download the whole ledger and derive every single decision again.")
@new_ledger_option
@timeout_option(10)
@json_option
@click.pass_obj
def verify(
    session: Session,
    *,
    coordinator: Address,
    manifest_path: Path | None,
    reference_path: Path | None,
    policy_hashes: tuple[bytes, ...],
    allow_simulated: bool,
    witness_path: Path | None,
    full: bool,
    new_ledger: bool,
    timeout_s: float,
) -> None:
    """Verify a Coordinator and the whole history of its manifests.

    Attests the Coordinator, follows the ledger's control chain (every manifest, Coordinator and recovery there ever
    was, each proven to be in the ledger and judged again), and demands that the ledger extends the one seen before at
    this address. With --full the whole ledger is downloaded, and every attestation and certificate derived again.
    Only when all is well the folder verify/ is written anew: mesh-root.pem (trust it for the manifest in force),
    coordinator-root.pem (trust it for all manifests of this ledger), every manifest, the policies, and what was read
    of the ledger: with --full all of it, for `contrast ledger` and `contrast audit`.
    """
    workspace, output = session.workspace, session.output
    yardstick, expected = _yardstick(workspace, manifest_path, reference_path, policy_hashes)
    check_simulated(yardstick, allowed=allow_simulated)
    job = Job(
        address=coordinator,
        yardstick=yardstick,
        expected=expected,
        timeout_s=timeout_s,
        new_ledger=new_ledger,
        full=full,
        now=datetime.now(UTC),  # noqa: TID251 a command is where the clock is read
        witnesses=read_asked(witness_path),
    )
    memory = Memory.load(workspace)
    folder = workspace.verify.resolve()  # A link stays a link.
    with _fresh_folder(folder.parent) as fresh:
        attested, source = asyncio.run(_fetch(job, memory, fresh / "ledger", output))
        announce(output, attested, yardstick)
        with output.working(
            "replaying the ledger and deriving every decision again" if full else "judging its history"
        ):
            verified = _judge(job, source, attested, memory)
            cosigned = None if job.witnesses is None else cosigned_in(verified.report, job.witnesses)
            demand_quorum(cosigned, verified.head.size, name=str(coordinator))
        write_results(fresh, verified, address=str(coordinator))
        replace_folder(folder, fresh)
    apply_changes(memory.remembering(str(coordinator), verified.head))
    answer = Answer(
        verified=verified,
        simulated=attested.statement.simulated,
        sources=yardstick.sources,
        cosigned=cosigned,
        folder=workspace.shown(workspace.verify),
    )
    output.document(answer.document())
    answer.tell(output)


def _yardstick(
    workspace: Workspace, manifest_path: Path | None, reference_path: Path | None, policy_hashes: tuple[bytes, ...]
) -> tuple[Yardstick, tuple[str, Manifest] | None]:
    values = None
    if reference_path is not None:
        values = (str(reference_path), read_file(reference_path, what="reference values"))
    if manifest_path is not None:
        name = str(manifest_path)
        manifest = parse_manifest(read_file(manifest_path, what="manifest"), name=name, recorded=True)
        return by_manifest(manifest, name=name, policy_hashes=policy_hashes, file=values), (name, manifest)
    found = policy_file(workspace)
    return by_values(release(), file=values, policy_hashes=policy_hashes, policy_file=found), None


async def _fetch(job: Job, memory: Memory, folder: Path, output: Output) -> tuple[AttestedCoordinator, Source]:
    address = str(job.address)
    async with CoordinatorClient(str(job.address)) as client:

        async def attempt() -> AttestedCoordinator:
            return await attest(client, job.yardstick, nonce=secrets.token_bytes(32), now=job.now, address=address)

        attested = await patiently(attempt, timeout_s=job.timeout_s, output=output, what=f"attesting {address}")
        demand_active(attested.statement, address=address, verb="verify")
        if attested.statement.checkpoint is None:
            raise RefusedError(f"the Coordinator at {address} attested no checkpoint")
        checkpoint, get = attested.statement.checkpoint.encode(), persistent(client)
        if job.full:
            with output.working("downloading the ledger"):
                await fetch_ledger(get, checkpoint, folder)
            return attested, DirectorySource(folder)
        remembered = _recall(job, memory, attested)
        with output.working("downloading the control chain"):
            fetched = await fetch_control(
                get,
                checkpoint,
                control_head(attested.statement, address=address),
                remembered=0 if remembered is None else remembered.size,
                hints=[item.seq for item in (await client.manifests()).manifests],
            )
        fetched.write(folder)
        return attested, fetched


def _recall(job: Job, memory: Memory, attested: AttestedCoordinator) -> Head | None:
    return memory.recall(str(job.address), origin=attested.statement.origin or "", new_ledger=job.new_ledger)


def _judge(job: Job, source: Source, attested: AttestedCoordinator, memory: Memory) -> Verified:
    address = str(job.address)
    remembered = _recall(job, memory, attested)
    judge = verify_ledger if job.full else verify_control
    verified = judge(source, job.yardstick, attested.statement, remembered, address=address)
    newest = verified.head.size - 1 if job.full else control_head(attested.statement, address=address).seq
    demand_past(source, newest, job.now, address=address)
    if job.expected is not None:
        name, mine = job.expected
        in_force = verified.report.manifests[-1].manifest
        lines = differences(mine, in_force, mine_name=name, theirs_name="the manifest in force")
        if lines:
            raise DiffersError(f"the manifest in force at {address} is not {name}; nothing was written", details=lines)
    return verified


@contextmanager
def _fresh_folder(root: Path) -> Iterator[Path]:
    """Give a folder on the workspace's own file system; what is left of it goes away."""
    try:
        fresh = Path(tempfile.mkdtemp(prefix=".verify.", dir=root))
    except OSError as error:
        raise LocalFileError(f"cannot write into {root}: {error.strerror or error}") from error
    try:
        fresh.chmod(0o755)
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
