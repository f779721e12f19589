"""The example deployment played by real processes, each command as a person types it, on addresses of its own."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "emojivoto"
PROGRAMS = {
    "contrast": "cli.main",
    "contrast-coordinator": "coordinator.__main__",
    "contrast-initializer": "initializer.__main__",
}
PATIENCE_S = 120


def programs(root: Path) -> dict[str, str]:
    """An environment whose PATH has the programs of this checkout, in a folder below *root*."""
    binaries = root / "bin"
    binaries.mkdir()
    for name, module in PROGRAMS.items():
        script = binaries / name
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        script.chmod(0o755)
    return {
        "PATH": f"{binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(root),
        "LANG": "C.UTF-8",
    }


class Story:
    """One workspace and the processes started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "workspace"
        shutil.copytree(EXAMPLE, self.root)
        number = os.getpid()
        # Two runs at once must not meet: every address of 127.0.0.0/8 is this machine.
        self.host = f"127.{100 + number % 100}.{number // 100 % 250 + 1}.{number // 25_000 + 1}"
        self.coordinator = f"{self.host}:1313"
        self.environ = programs(root)
        self.guest: subprocess.Popen[bytes] | None = None

    def run(self, *command: str, status: int = 0, stdin: bytes = b"") -> str:
        """Run *command* in the workspace; give stdout and stderr together."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environ,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        assert done.returncode == status, f"{' '.join(command)} ended with {done.returncode}:\n{output}\n{self.log()}"
        return output

    def contrast(self, *arguments: str, status: int = 0) -> str:
        return self.run("contrast", *arguments, status=status)

    def log(self) -> str:
        path = self.root / "coordinator.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def start_coordinator(self, *more: str) -> None:
        with (self.root / "coordinator.log").open("ab") as log:
            self.guest = subprocess.Popen(
                [
                    *("contrast", "dev", "guest", "--bind", self.host, "--pod", "coordinator", "deployment/"),
                    *("--", "contrast-coordinator", "--ledger", "ledger", *more),
                ],
                cwd=self.root,
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        self.wait(lambda: self.probe("startup") == 200, "the Coordinator has started")

    def probe(self, name: str) -> int:
        """The status of a probe; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:9102/probe/{name}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log()}"
            time.sleep(0.05)

    def kill_coordinator(self) -> None:
        """`kill -9`, as a machine that loses power."""
        recorded = json.loads((self.root / ".contrast-dev" / "run" / "coordinator.json").read_bytes())
        os.kill(recorded["process"]["pid"], signal.SIGKILL)
        assert self.guest is not None
        self.guest.wait(PATIENCE_S)

    def web(self, path: str, *more: str, status: int = 0) -> str:
        """What curl gets from the web front end, trusting verify/mesh-root.pem alone."""
        url = f"https://web:8443{path}"
        resolve = f"web:8443:{self.host}"
        return self.run(
            *("curl", "--silent", "--show-error", "--fail", "--cacert", "./verify/mesh-root.pem"),
            *("--resolve", resolve, *more, url),
            status=status,
        )

    def chain(self) -> str:
        """The mission's own check: s_client, awk, openssl verify. Gives what openssl says."""
        shown = self.run(
            *("openssl", "s_client", "-showcerts", "-connect", f"{self.host}:8443", "-servername", "web"), stdin=b""
        )
        (self.root / "certChain.pem").write_text(shown)
        self.run("awk", '/BEGIN CERTIFICATE/ {n++} n {print > ("cert." n ".pem")}', "certChain.pem")
        return self.verify_leaf()

    def verify_leaf(self, *, status: int = 0) -> str:
        return self.run(
            *("openssl", "verify", "-verbose", "-trusted", "verify/mesh-root.pem", "--", "cert.1.pem"), status=status
        )

    def pods(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.contrast("dev", "status", "--json").splitlines()]

    def answer_without_certificate(self, service: str) -> bytes:
        """What *service* answers to a client that trusts the mesh and shows no certificate; nothing if it refuses."""
        address = next(pod["address"] for pod in self.pods() if pod["subject"].startswith(f"{service}-"))
        context = ssl.create_default_context(cafile=self.root / "verify" / "mesh-root.pem")
        host = address.partition(":")[0]
        with (
            socket.create_connection((host, 8443), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=service) as connection,
        ):
            # In TLS 1.3 the client learns of the refusal when it reads: as an alert, or as the connection's end.
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: voting\r\nConnection: close\r\n\r\n")
                return connection.recv(100)
            except OSError:
                return b""

    def close(self) -> None:
        if (self.root / ".contrast-dev" / "run").exists():
            self.contrast("dev", "stop")
        if self.guest is not None and self.guest.poll() is None:
            self.guest.terminate()
            self.guest.wait(PATIENCE_S)
