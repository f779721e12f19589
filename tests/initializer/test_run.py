"""Trying again, giving up, renewing: what the Initializer does when the world is not as it should be."""

import itertools
import os
import stat
import sys
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from attestation.errors import EndorsementsMissingError, EvidenceError
from attestation.evidence import Evidence
from initializer.errors import LocalFaultError, NoAnswerError, RefusedError, WrongAnswerError
from initializer.run import Initializer, renewal_time
from tests.support.fakemesh import NOW, Answer, FakeMesh, ReportIssuer
from tests.support.scripted import Reply, Time, world
from wire.client import CertificateChangedError
from wire.messages import CertificateRequest
from wire.problem import RemoteError, RemoteRefusedError, UnreachableError, UntrustworthyAnswerError, make_problem


def refused(code: str, status: HTTPStatus, retry_after_s: int | None = None) -> RemoteRefusedError:
    problem = make_problem(code, status, "the Coordinator's own words", seen="this", wanted="that")
    return RemoteRefusedError(problem, address="coordinator:7777", retry_after_s=retry_after_s)


def failing(mesh: FakeMesh, *errors: RemoteError) -> Reply:
    """A Coordinator that fails with *errors*, one a request, and then answers."""
    queue: Iterator[RemoteError] = iter(errors)

    def reply(request: CertificateRequest) -> Answer:
        for error in queue:
            raise error
        return mesh.answer(request)

    return reply


def nothing_in(directory: Path) -> bool:
    return not any(directory.iterdir())


async def test_the_files_are_those_that_the_documentation_names(tmp_path: Path) -> None:
    mesh = FakeMesh()
    initializer = Initializer(world(mesh.answer), tmp_path / "tls")
    obtained = await initializer.once()
    folder = tmp_path / "tls"
    names = {path.name for path in folder.iterdir() if not path.name.startswith("..")}
    assert names == {
        "certChain.pem",
        "key.pem",
        "mesh-root.pem",
        "coordinator-root.pem",
        "cert.tlog-proof",
        "workload-secret",
    }
    leaf, intermediate = x509.load_pem_x509_certificates((folder / "certChain.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    assert key.public_key() == leaf.public_key()
    (mesh_root,) = x509.load_pem_x509_certificates((folder / "mesh-root.pem").read_bytes())
    (root,) = x509.load_pem_x509_certificates((folder / "coordinator-root.pem").read_bytes())
    leaf.verify_directly_issued_by(mesh_root)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    assert (folder / "cert.tlog-proof").read_bytes() == obtained.checked.bundle.receipt
    assert mesh.secret is not None
    assert (folder / "workload-secret").read_text() == mesh.secret.hex() + "\n"
    for name in ("key.pem", "workload-secret"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o400
    assert initializer.placed


async def test_a_pod_without_secret_id_gets_no_secret_file(tmp_path: Path) -> None:
    await Initializer(world(FakeMesh(secret=None).answer), tmp_path).once()
    assert not (tmp_path / "workload-secret").exists()


async def test_every_attempt_has_keys_of_its_own(tmp_path: Path) -> None:
    """A key whose request was seen to fail somewhere is not offered twice."""
    requests: list[CertificateRequest] = []
    reply = failing(FakeMesh(), UnreachableError("x"))

    def recorded(request: CertificateRequest) -> Answer:
        requests.append(request)
        return reply(request)

    await Initializer(world(recorded, time=Time()), tmp_path).once()
    first, second = requests
    assert first.hpke_public_key != second.hpke_public_key
    keys = [x509.load_der_x509_csr(request.csr).public_key() for request in requests]
    assert keys[0] != keys[1]


async def test_what_may_pass_is_waited_for_longer_and_longer(tmp_path: Path) -> None:
    time = Time()
    errors = (
        UnreachableError("x"),
        refused("needs_manifest", HTTPStatus.SERVICE_UNAVAILABLE),
        refused("needs_recovery", HTTPStatus.SERVICE_UNAVAILABLE),
        refused("busy", HTTPStatus.TOO_MANY_REQUESTS, retry_after_s=20),
        refused("challenge_unknown", HTTPStatus.FORBIDDEN),
        refused("challenge_expired", HTTPStatus.FORBIDDEN),
        CertificateChangedError("another replica"),
    )
    await Initializer(world(failing(FakeMesh(), *errors), time=time), tmp_path).once()
    assert time.slept == [0.25, 0.5, 1.0, 20.0, 4.0, 8.0, 15.0]


async def test_giving_up_is_a_choice(tmp_path: Path) -> None:
    time = Time()
    reply = failing(FakeMesh(), *[UnreachableError("coordinator:7777 does not answer")] * 9)
    with pytest.raises(NoAnswerError, match="gave up after 3 tries; the last one: coordinator:7777 does not answer"):
        await Initializer(world(reply, time=time), tmp_path, attempts=3).once()
    assert len(time.slept) == 2
    assert nothing_in(tmp_path)


@pytest.mark.parametrize(
    ("error", "because"),
    [
        (refused("unknown_policy", HTTPStatus.FORBIDDEN), "policy 7070707.*which the manifest in force does not name"),
        (refused("evidence_refused", HTTPStatus.FORBIDDEN), "reference values .* do not accept the machine"),
        (refused("binding_mismatch", HTTPStatus.FORBIDDEN), "gives this pod .* no certificate"),
        (refused("some_code_of_the_future", HTTPStatus.CONFLICT), "gives this pod .* no certificate"),
        (UntrustworthyAnswerError("coordinator:7777 sent more than 9 bytes"), "sent more than 9 bytes"),
    ],
)
async def test_a_final_refusal_ends_it_with_words_for_a_person(
    error: RemoteError, because: str, tmp_path: Path
) -> None:
    with pytest.raises(RefusedError, match=because) as caught:
        await Initializer(world(failing(FakeMesh(), error)), tmp_path).once()
    assert str(error) in str(caught.value), "the Coordinator's own words are lost"
    assert nothing_in(tmp_path)


class LateIssuer(ReportIssuer):
    """A secure processor that fails with *errors* first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def issue(self, report_data: bytes) -> Evidence:
        if self.errors:
            raise self.errors.pop(0)
        return await super().issue(report_data)


async def test_endorsements_that_come_late_are_waited_for(tmp_path: Path) -> None:
    time = Time()
    source = LateIssuer(EndorsementsMissingError("not yet"))
    await Initializer(world(FakeMesh().answer, time=time, source=source), tmp_path).once()
    assert len(time.slept) == 1


async def test_a_processor_that_gives_nothing_usable_is_a_local_fault(tmp_path: Path) -> None:
    for source, attempts in ((LateIssuer(EvidenceError("x")), 0), (LateIssuer(EndorsementsMissingError("x")), 1)):
        with pytest.raises(LocalFaultError, match="no evidence could be made"):
            await Initializer(world(FakeMesh().answer, source=source, time=Time()), tmp_path, attempts).once()


async def test_an_unwritable_directory_is_found_before_the_coordinator_is_asked(tmp_path: Path) -> None:
    """Else a certificate would be issued and recorded for nobody, at every restart of the pod."""
    asked: list[CertificateRequest] = []

    def reply(request: CertificateRequest) -> Answer:
        asked.append(request)
        raise AssertionError

    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocalFaultError):
        await Initializer(world(reply), tmp_path / "file" / "tls").once()
    assert asked == []


class EnoughError(Exception):
    """Ends a life that would not end."""


class Deadline(Time):
    """Time that ends after 600 days."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if self.now - NOW > timedelta(days=600):
            raise EnoughError


async def test_a_certificate_is_renewed_at_two_thirds_of_its_life(tmp_path: Path) -> None:
    time = Deadline()
    mesh = FakeMesh()
    issued: list[timedelta] = []
    known: list[int | None] = []

    def reply(request: CertificateRequest) -> Answer:
        issued.append(time.now - NOW)
        known.append(None if request.known_head is None else request.known_head.size)
        mesh.now = time.now
        return mesh.answer(request)

    initializer = Initializer(world(reply, time=time), tmp_path)
    with pytest.raises(EnoughError):
        await initializer.forever()
    days = [when / timedelta(days=1) for when in issued]
    # Two thirds of 365 days, counted from one hour before issuance.
    assert days == pytest.approx([0, 243.29, 486.58], abs=0.01)
    assert known == [None, 4, 5], "a renewal must prove that the ledger extends the one before"
    assert max(time.slept) <= 3600
    assert initializer.placed


async def test_a_clock_that_is_far_ahead_makes_no_flood_of_renewals(tmp_path: Path) -> None:
    """Each certificate would be due at once, and the next one recorded as fast as the Coordinator can."""
    time = Time(now=NOW + timedelta(days=250))
    mesh = FakeMesh()
    issued: list[timedelta] = []

    def reply(request: CertificateRequest) -> Answer:
        issued.append(time.now - NOW)
        if len(issued) == 4:
            raise EnoughError
        return mesh.answer(request)

    with pytest.raises(EnoughError):
        await Initializer(world(reply, time=time), tmp_path).forever()
    assert [after - before for before, after in itertools.pairwise(issued)] == [timedelta(seconds=600)] * 3


async def test_a_renewal_from_a_ledger_that_was_rolled_back_keeps_the_files(tmp_path: Path) -> None:
    mesh, older = FakeMesh(), FakeMesh()
    older.ledger_key, older.epoch_key = mesh.ledger_key, mesh.epoch_key
    initializer = Initializer(world(mesh.answer), tmp_path)
    obtained = await initializer.once()
    del mesh.entries[2:]
    mesh.append("manifest.set", [1, 99])
    mesh.append("manifest.set", [1, 100])
    with pytest.raises(WrongAnswerError, match="does not extend"):
        await initializer.once()
    assert (tmp_path / "cert.tlog-proof").read_bytes() == obtained.checked.bundle.receipt


async def test_renewal_is_planned_from_the_leaf_itself(tmp_path: Path) -> None:
    obtained = await Initializer(world(FakeMesh(life=timedelta(hours=3)).answer), tmp_path).once()
    assert renewal_time(obtained) == NOW.replace(microsecond=0) + timedelta(hours=1)


WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "shutil.rmtree"}


async def test_nothing_is_written_outside_the_one_directory(tmp_path: Path) -> None:
    """The container's root is read-only; only the volume is not."""
    watching = True
    outside: list[str] = []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if not watching:
            return
        writes = event in WRITES and not (event in ("os.remove", "os.rmdir") and arguments[1] != -1)  # Below a folder.
        if event == "open":
            writes = bool(int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        path = str(arguments[event == "os.symlink"]) if arguments else ""  # A link's target is only a text.
        if writes and not path.isdigit() and not path.startswith(str(tmp_path / "tls")):
            outside.append(f"{event} {path}")

    sys.addaudithook(watch)  # It cannot be removed, so it is told to sleep.
    try:
        mesh = FakeMesh()
        await Initializer(world(mesh.answer), tmp_path / "tls").once()
        await Initializer(world(mesh.answer), tmp_path / "tls").once()
    finally:
        watching = False
    assert outside == []


async def test_no_secret_and_no_key_is_logged_or_told(tmp_path: Path) -> None:
    """GHSA-h5f8-crrq-4pw8: logs leave the pod, secrets must not."""
    mesh = FakeMesh()
    time = Time()
    with capture_logs() as logs:
        obtained = await Initializer(world(failing(mesh, UnreachableError("x")), time=time), tmp_path).once()
    key = (tmp_path / "key.pem").read_text().split("\n")[1]
    told = f"{logs!r} {obtained!r} {obtained.files()!r}"
    assert {entry["event"] for entry in logs} == {"trying_again", "placed"}
    assert mesh.secret is not None
    for secret in (mesh.secret.hex(), repr(mesh.secret), key):
        assert secret not in told
