"""An answer of which one or two parts come from elsewhere is refused, and nothing is written.

The host carries every byte between pod and Coordinator, and the Initializer cannot judge a Coordinator: so a mix of
genuine and self-made parts must be impossible (DESIGN section 4, "The answer is one bundle").
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from initializer.errors import WrongAnswerError
from initializer.run import Initializer
from tests.support.fakemesh import PARTS, Answer, FakeMesh, certificate, new_key
from tests.support.scripted import world
from wire.messages import CertificateRequest, SealedSecret
from wire.sealing import hpke_seal, secret_info

STRANGER = FakeMesh()


async def captured(mesh: FakeMesh, tmp_path: Path, *, policy: bytes = b"p" * 32) -> tuple[CertificateRequest, Answer]:
    """A request of another pod, and its genuine answer."""
    seen: list[tuple[CertificateRequest, Answer]] = []

    def reply(request: CertificateRequest) -> Answer:
        seen.append((request, mesh.answer(request)))
        return seen[-1][1]

    await Initializer(world(reply, policy=policy), tmp_path).once()
    return seen[0]


def forged(mesh: FakeMesh, request: CertificateRequest, genuine: Answer) -> Answer:
    """The best that a host can make itself: it knows all public keys and copies all names and extensions."""
    attacker = STRANGER.mesh_key
    leaf = x509.load_der_x509_certificate(genuine.leaf)
    copied = [extension.value for extension in leaf.extensions][2:]
    ours = certificate("web", "mesh", leaf.public_key(), attacker, path_length=None, extensions=copied)
    info = secret_info(mesh.origin, bytes(32))
    return Answer(
        leaf=ours,
        intermediate=certificate("mesh", "root", mesh.mesh_key.public_key(), attacker, path_length=0),
        mesh_ca=certificate("mesh", "mesh", attacker.public_key(), attacker, path_length=0),
        root_ca=certificate("root", "root", attacker.public_key(), attacker, path_length=1),
        receipt=STRANGER.receipt(0),
        sealed=(SealedSecret(id=genuine.sealed[0].id, data=hpke_seal(b"a" * 64, request.hpke_public_key, info)),)
        if genuine.sealed
        else (),
    )


def resealed(mesh: FakeMesh, request: CertificateRequest, answer: Answer) -> Answer:
    """*answer* with a secret that the host chose, sealed as it must be for this pod and this very bundle."""
    lie = FakeMesh(ledger_key=mesh.ledger_key, secret=b"a" * 64)
    return answer.swapped(sealed=lie.seal(answer, request))


def choices(names: tuple[str, ...], sources: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Every way to take one or two parts from elsewhere: part -> source."""
    for count in (1, 2):
        for parts in itertools.combinations(names, count):
            for where in itertools.product(sources, repeat=count):
                yield dict(zip(parts, where, strict=True))


def shown(choice: dict[str, str]) -> str:
    return "+".join(f"{part}:{source}" for part, source in choice.items())


@pytest.mark.parametrize("has_secret", [True, False], ids=["secret", "no-secret"])
async def test_every_mix_of_one_or_two_foreign_parts_is_refused_and_nothing_is_written(
    has_secret: bool, tmp_path: Path
) -> None:
    mesh = FakeMesh()
    if not has_secret:
        mesh.secret = None
    _, other_manifest = await captured(mesh, tmp_path / "3")
    mesh.new_mesh(new_key())
    _, same_pod = await captured(mesh, tmp_path / "1")  # The same policy, another key: a replica, or a restart.
    _, other_pod = await captured(mesh, tmp_path / "2", policy=b"q" * 32)
    stranger = FakeMesh(secret=mesh.secret)
    _, other_ledger = await captured(stranger, tmp_path / "4")
    target = tmp_path / "target"
    names = PARTS if has_secret else PARTS[:-1]
    size = len(mesh.entries)
    accepted: list[str] = []
    checks: set[int] = set()
    for choice in choices(names, ("same_pod", "other_pod", "other_manifest", "other_ledger", "forged")):
        del mesh.entries[size:]

        def reply(request: CertificateRequest, choice: dict[str, str] = choice) -> Answer:
            genuine = mesh.answer(request)
            sources = {
                "same_pod": same_pod,
                "other_pod": other_pod,
                "other_manifest": other_manifest,
                "other_ledger": other_ledger,
                "forged": forged(mesh, request, genuine),
            }
            parts = {part: getattr(sources[source], part) for part, source in choice.items()}
            if all(getattr(genuine, part) == value for part, value in parts.items()):
                raise LookupError  # The other answer has the very same part: nothing is swapped.
            return genuine.swapped(**parts)

        try:
            await Initializer(world(reply), target).once()
            accepted.append(shown(choice))
        except WrongAnswerError as error:
            checks.add(error.check)
        except LookupError:
            continue
        assert list(target.iterdir()) == [], shown(choice)
    assert accepted == []
    assert checks == {2, 3, 4, 5, 6, 8 if has_secret else 9}  # A secret is bound to the receipt too.


@pytest.mark.parametrize("part", PARTS[:-1])
async def test_a_part_swapped_together_with_a_secret_of_the_hosts_own_is_refused(part: str, tmp_path: Path) -> None:
    """The host can seal a secret for any bundle; but the leaf names the secret."""
    mesh = FakeMesh()
    _, other = await captured(mesh, tmp_path / "1")

    def swapped(request: CertificateRequest) -> Answer:
        answer = mesh.answer(request)
        return resealed(mesh, request, answer.swapped(**{part: getattr(forged(mesh, request, answer), part)}))

    def mixed(request: CertificateRequest) -> Answer:
        answer = mesh.answer(request)
        return resealed(mesh, request, answer.swapped(**{part: getattr(other, part)}))

    for reply in (swapped, mixed):
        with pytest.raises(WrongAnswerError):
            await Initializer(world(reply), tmp_path / "target").once()
        assert list((tmp_path / "target").iterdir()) == []


async def test_the_genuine_answer_is_accepted(tmp_path: Path) -> None:
    """Else every refusal above would prove nothing."""
    mesh = FakeMesh()
    await Initializer(world(mesh.answer), tmp_path / "target").once()
    assert (tmp_path / "target" / "workload-secret").is_file()
