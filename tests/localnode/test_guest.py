"""A program in a simulated guest: what it can prove, and that it does not outlive it."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localnode.detach import status
from localnode.errors import AddressError, ContainerFailedError, DevWorkspaceError, PodNotFoundError, PolicyMissingError
from localnode.guest import Coordinator, find_coordinator, run_in_guest
from localnode.rundir import DevFolder, read_state
from localnode.setup import load_platform
from localnode.status import Phase
from tests.support.pods import coordinator, deployment

PROJECT = Path(__file__).resolve().parents[2]
CONTAINERS = "containers: [{name: app, image: a}]\n"
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
Write = Callable[[str, str], Path]

PROVE = """
import asyncio, json, os, sys
from attestation.evidence import host_data_of, binding_of
from attestation.issuer import find_issuer

evidence = asyncio.run(find_issuer(os.environ).issue(b"r" * 64))
with open(sys.argv[1], "w") as file:
    json.dump({"host_data": host_data_of(evidence).hex(), "binding": binding_of(evidence).hex(),
               "bind": os.environ["CONTRAST_BIND"], "kind": evidence.kind.value}, file)
"""


async def test_the_guest_proves_the_digest_of_its_pods_policy(workspace: Path, write: Write) -> None:
    """Or any program could have any pod's certificate."""
    folder = write("a.yml", deployment("web", CONTAINERS, policy="the policy"))
    command = [sys.executable, "-c", PROVE, str(workspace / "out")]
    assert await run_in_guest(workspace, [folder], pod="web", command=command, environ=ENVIRON, bind="127.0.0.9") == 0
    assert json.loads((workspace / "out").read_text()) == {
        "host_data": hashlib.sha256(b"the policy").hexdigest(),
        "binding": (b"r" * 64).hex(),
        "bind": "127.0.0.9",
        "kind": "simulated",
    }
    assert len(load_platform(workspace).measurement) == 48


async def test_the_exit_code_is_the_programs(workspace: Path, write: Write) -> None:
    folder = write("a.yml", deployment("web", CONTAINERS))
    for code, wanted in (("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)):
        command = [sys.executable, "-c", code]
        assert await run_in_guest(workspace, [folder], pod="web", command=command, environ=ENVIRON) == wanted


async def test_signals_go_to_the_program(workspace: Path, write: Write) -> None:
    """Ctrl-C must let it close its ledger, not cut it off."""
    folder = write("a.yml", deployment("web", CONTAINERS))
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(23))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "signal.pause()\n"
    )
    assert (
        await run_in_guest(workspace, [folder], pod="web", command=[sys.executable, "-c", code], environ=ENVIRON) == 23
    )
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


async def test_a_running_coordinator_is_found_and_forgotten(workspace: Path, write: Write) -> None:
    folder = write("c.yml", coordinator())
    dev = DevFolder(workspace)
    assert find_coordinator(dev) is None
    command = [sys.executable, "-c", "import time; time.sleep(60)", "--mesh-port", "17777"]
    environ = {**ENVIRON, "CONTRAST_USER_PORT": "11313", "CONTRAST_MESH_PORT": "1"}
    task = asyncio.get_running_loop().create_task(
        run_in_guest(workspace, [folder], pod="coordinator", command=command, environ=environ, bind="127.0.0.8")
    )
    while (found := find_coordinator(dev)) is None:  # noqa: ASYNC110  a file is polled
        await asyncio.sleep(0.01)
    assert found == Coordinator(address="127.0.0.8", user_port=11313, mesh_port=17777)
    state = read_state(dev.coordinator_file)
    assert state is not None
    (shown,) = status(workspace)  # Without a node, too: it is the first thing that a trial starts.
    assert (shown.subject, shown.phase, shown.address) == ("coordinator", Phase.RUNNING, "127.0.0.8")
    assert "user port 11313, mesh port 17777" in shown.detail
    os.kill(state["process"]["pid"], signal.SIGKILL)
    assert find_coordinator(dev) is None or not task.done()
    assert await task == 137
    assert find_coordinator(dev) is None
    assert not dev.coordinator_file.exists()


async def test_a_second_coordinator_that_fails_does_not_make_the_first_forgotten(workspace: Path, write: Write) -> None:
    """It was started twice by mistake and found its port taken: the pods still need the one that runs."""
    folder = write("c.yml", coordinator())
    dev = DevFolder(workspace)
    command = [sys.executable, "-c", "import time; time.sleep(60)", "--user-port", "1"]
    async with asyncio.TaskGroup() as group:
        first = group.create_task(
            run_in_guest(workspace, [folder], pod="coordinator", command=command, environ=ENVIRON, bind="127.0.0.8")
        )
        while find_coordinator(dev) is None:  # noqa: ASYNC110  a file is polled
            await asyncio.sleep(0.01)
        code = "import subprocess, sys, os, asyncio\n"
        code += "from pathlib import Path\nfrom localnode.guest import run_in_guest\n"
        code += "sys.exit(asyncio.run(run_in_guest(Path(sys.argv[1]), [Path(sys.argv[2])], pod='coordinator',"
        code += "command=[sys.executable, '-c', 'raise SystemExit(3)'], environ=dict(os.environ))))"
        second = await asyncio.create_subprocess_exec(sys.executable, "-c", code, workspace, folder, env=ENVIRON)
        assert await second.wait() == 3
        found = find_coordinator(dev)
        assert found is not None
        assert (found.address, found.user_port) == ("127.0.0.8", 1)
        state = read_state(dev.coordinator_file)
        assert state is not None
        os.kill(state["process"]["pid"], signal.SIGKILL)
        assert await first == 137
    assert not dev.coordinator_file.exists()


async def test_the_program_does_not_outlive_its_guest(workspace: Path, write: Write) -> None:
    """`kill -9` of the guest must not leave a Coordinator behind that holds port and ledger."""
    folder = write("c.yml", coordinator())
    code = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom localnode.guest import run_in_guest\n"
        "asyncio.run(run_in_guest(Path(sys.argv[1]), [Path(sys.argv[2])], pod='coordinator',\n"
        "    command=[sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'],\n"
        "    environ=dict(os.environ)))"
    )
    guest = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, workspace, folder, env=ENVIRON, stdout=subprocess.PIPE, start_new_session=True
    )
    assert guest.stdout is not None
    await guest.stdout.readline()
    state = read_state(DevFolder(workspace).coordinator_file)
    assert state is not None
    program = os.pidfd_open(state["process"]["pid"])
    guest.kill()
    await guest.wait()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(program, ended.set)  # a pidfd is readable when its process has ended
    async with asyncio.timeout(10):
        await ended.wait()
    loop.remove_reader(program)
    os.close(program)


async def test_what_cannot_be_launched_is_said_before_anything_runs(
    workspace: Path, tmp_path: Path, write: Write
) -> None:
    folder = write("a.yml", deployment("web", CONTAINERS))
    command = [sys.executable, "-c", "open('ran', 'w')"]

    async def launch(
        root: Path = workspace, pod: str = "web", words: list[str] = command, bind: str = "127.0.0.1"
    ) -> None:
        await run_in_guest(root, [folder], pod=pod, command=words, environ=ENVIRON, bind=bind)

    with pytest.raises(PodNotFoundError, match="there is web"):
        await launch(pod="wbe")
    with pytest.raises(AddressError, match=r"127\.0\.0\.0/8"):
        await launch(bind="0.0.0.0")  # noqa: S104  that is what is refused
    with pytest.raises(ContainerFailedError, match="no-such-program"):
        await launch(words=["no-such-program"])
    with pytest.raises(ContainerFailedError, match="behind `--`"):
        await launch(words=[])
    with pytest.raises(DevWorkspaceError, match="contrast dev init"):
        await launch(root=tmp_path / "elsewhere")
    text = (folder / "a.yml").read_text()
    (folder / "a.yml").write_text(text.replace("agent.policy:", "agent.policies:"))
    with pytest.raises(PolicyMissingError, match=r"a\.yml:1.*contrast generate"):
        await launch()
    (folder / "a.yml").write_text(text.replace("agent.policy: ", "agent.policy: '%'  #"))
    with pytest.raises(PolicyMissingError, match="base64"):
        await launch()
