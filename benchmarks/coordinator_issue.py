"""Certificates over HTTPS: what a Coordinator spends on one, beside the bare arithmetic that it cannot avoid.

The server runs as a program of its own on CPU 0 with default limits, the load in another process on CPU 1: 32 workloads
from 127.0.0.2 to 127.0.0.33, each with a connection of its own, asking for a challenge and then for a certificate. The
limit is, in a bare loop on CPU 0 before and after: verify the report (P-384), verify the CSR (P-384), sign the leaf
(P-384), sign two events (Ed25519). Compared is CPU time, so that neither disk nor load generator flatters or hurts.
"""

import asyncio
import base64
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from attestation.simulated.socket import serve
from attestation.simulated.vendor import VendorChain
from benchmarks.support import Deployment, Pod, launch
from wire.client import CoordinatorClient

CONNECTIONS = 32
CERTIFICATES = 3200
WARM_UP = 320
SERVER_CPU, LOAD_CPU = 0, 1
PRIMITIVES = "2 x P-384 verify, 1 x P-384 sign, 2 x Ed25519 sign"
_SIGNED = 0x2A0
_REPORT_DATA = slice(0x50, 0x90)


def rows() -> dict[str, dict[str, Any]]:
    """The row ``coordinator.issue``: CPU milliseconds of the server per certificate."""
    before = _on_cpu(SERVER_CPU, "primitives")
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as folder:
        measured = asyncio.run(_measure(Path(folder)))
    after = _on_cpu(SERVER_CPU, "primitives")
    limit_ms = statistics.mean((before["ms"], after["ms"]))
    value_ms = measured["server_cpu_s"] * 1000 / measured["certificates"]
    row = {
        "value": round(value_ms, 3),
        "limit": round(limit_ms, 3),
        "ratio": round(limit_ms / value_ms, 3),
        "unit": "ms CPU per certificate",
        "limit_is": PRIMITIVES,
        "limit_before_after": [round(before["ms"], 3), round(after["ms"], 3)],
        "certificates": measured["certificates"],
        "wall_per_s": round(measured["certificates"] / measured["wall_s"], 1),
        "p99_ms": round(measured["p99_ms"], 1),
        "load_share": round(measured["load_cpu_s"] / measured["wall_s"], 3),
    }
    return {"coordinator.issue": row}


def primitives(rounds: int = 400) -> dict[str, float]:
    """The arithmetic of one certificate in a bare loop; CPU milliseconds."""
    vendor_key, pod_key, ca_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
    epoch = Ed25519PrivateKey.generate()
    algorithm = ec.ECDSA(hashes.SHA384())
    report, request, leaf, event = os.urandom(672), os.urandom(300), os.urandom(1500), os.urandom(50)
    report_signature, request_signature = vendor_key.sign(report, algorithm), pod_key.sign(request, algorithm)
    report_key, request_key = vendor_key.public_key(), pod_key.public_key()
    began = time.process_time()
    for _ in range(rounds):
        report_key.verify(report_signature, report, algorithm)
        request_key.verify(request_signature, request, algorithm)
        ca_key.sign(leaf, algorithm)
        epoch.sign(event)
        epoch.sign(event)
    return {"ms": (time.process_time() - began) * 1000 / rounds}


async def _measure(folder: Path) -> dict[str, float]:
    vendor = VendorChain.create(datetime.now(UTC))
    vendor.save(folder / "vendor")
    deployment = Deployment(vendor)
    async with serve(launch(vendor, deployment.coordinator_policy), folder / "processor"):
        with _server(folder) as (process, ports):
            async with CoordinatorClient(f"127.0.0.1:{ports['user']}") as client:
                attested = await client.fetch_statement(os.urandom(32))
                client.pin(attested.tls_sha256)
                await client.set_manifest(deployment.request(attested.statement.origin or ""))
            await _load(folder, ports["mesh"], WARM_UP)
            cpu, wall = _cpu_seconds(process.pid), time.perf_counter()
            result = await _load(folder, ports["mesh"], CERTIFICATES)
            cpu = _cpu_seconds(process.pid) - cpu
            return {**result, "server_cpu_s": cpu, "total_wall_s": time.perf_counter() - wall}


async def _load(folder: Path, port: int, count: int) -> dict[str, float]:
    argv = [sys.executable, "-m", "benchmarks.coordinator_issue", "load", str(folder), str(port), str(count)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    result: dict[str, float] = json.loads(output)
    return result


@contextmanager
def _server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    environ = {
        **os.environ,
        "CONTRAST_SIMULATED_PROCESSOR": str(folder / "processor"),
        "CONTRAST_LEDGER": str(folder / "ledger"),
        "CONTRAST_BIND": "127.0.0.1",
        "CONTRAST_USER_PORT": "0",
        "CONTRAST_MESH_PORT": "0",
        "CONTRAST_PROBE_PORT": "0",
    }
    argv = ["taskset", "-c", str(SERVER_CPU), sys.executable, "-m", "coordinator"]
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, env=environ, stdout=log) as process:
        try:
            yield process, _wait_for_ports(folder / "log", process)
        finally:
            process.terminate()
            process.wait(30)


def _wait_for_ports(log: Path, process: subprocess.Popen[bytes]) -> dict[str, int]:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "listening":
                return {name: event[f"{name}_port"] for name in ("user", "mesh", "probe")}
        time.sleep(0.05)
    raise RuntimeError(f"the Coordinator ended with {process.returncode}: {log.read_text()}")


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads and children, from the scheduler's own nanosecond counters."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    own = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
    return own + sum(_cpu_seconds(child) for child in children)


def _on_cpu(cpu: int, what: str) -> dict[str, float]:
    argv = ["taskset", "-c", str(cpu), sys.executable, "-m", "benchmarks.coordinator_issue", what]
    result: dict[str, float] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return result


# --- The load, in a process of its own.


class _Workload:
    """One pod with its connection. All that does not depend on the challenge is made before the clock starts."""

    def __init__(self, number: int, vendor: VendorChain, policy: bytes) -> None:
        self.pod = Pod(launch(vendor, policy))
        self.address = f"127.0.0.{2 + number}"
        self.key = vendor.chip.key
        self.unsigned = bytearray(self.pod.guest.report(bytes(64))[:_SIGNED])
        body = json.loads(self.pod.request_json(bytes(32)))
        body["nonce"] = "NONCE"
        for part in body["evidence"]["parts"]:
            if part["role"] == "report":
                part["data"] = "REPORT"
        text = json.dumps(body, separators=(",", ":")).encode()
        self.before, rest = text.split(b"NONCE")
        self.between, self.behind = rest.split(b"REPORT")
        self.seconds: list[float] = []
        self.last: bytes = b""

    def certificate_body(self, nonce: bytes) -> bytes:
        self.unsigned[_REPORT_DATA] = self.pod.binding(nonce)
        unsigned = bytes(self.unsigned)
        r, s = decode_dss_signature(self.key.sign(unsigned, ec.ECDSA(hashes.SHA384())))
        report = unsigned + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)
        return b"".join((self.before, base64.b64encode(nonce), self.between, base64.b64encode(report), self.behind))

    async def run(self, port: int, rounds: int, context: ssl.SSLContext) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, local_addr=(self.address, 0), limit=1 << 20
        )
        challenge = b"POST /v1/challenges HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n"
        for _ in range(rounds):
            began = time.perf_counter()
            writer.write(challenge)
            answer = await _answer(reader)
            body = self.certificate_body(base64.b64decode(_NONCE.search(answer)[1]))  # type: ignore[index]
            head = f"{_POST}Content-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            self.last = await _answer(reader)
            self.seconds.append(time.perf_counter() - began)
        writer.close()


_POST = "POST /v1/certificates HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\n"
_NONCE = re.compile(rb'"nonce":"([^"]+)"')
_LENGTH = re.compile(rb"(?i)content-length: ([0-9]+)")


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{head!r} {body!r}")
    return body


def load(folder: Path, port: int, count: int) -> dict[str, float]:
    """Ask for *count* certificates; what it cost, and how long each took."""
    os.sched_setaffinity(0, {LOAD_CPU})
    vendor = VendorChain.load(folder / "vendor")
    policy = Deployment(vendor).workload_policy
    workloads = [_Workload(number, vendor, policy) for number in range(CONNECTIONS)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as tasks:
            for workload in workloads:
                tasks.create_task(workload.run(port, count // CONNECTIONS, context))

    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(all_of_them())
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    for workload in workloads:
        workload.pod.check(workload.last)  # What was counted were certificates.
    seconds = sorted(each for workload in workloads for each in workload.seconds)
    return {
        "certificates": len(seconds),
        "wall_s": wall_s,
        "load_cpu_s": cpu_s,
        "p99_ms": seconds[int(len(seconds) * 0.99)] * 1000,
    }


def main() -> None:
    match sys.argv[1:]:
        case ["primitives"]:
            print(json.dumps(primitives()))
        case ["load", folder, port, count]:
            print(json.dumps(load(Path(folder), int(port), int(count))))
        case _:
            print(json.dumps(rows(), indent=2))


if __name__ == "__main__":
    main()
