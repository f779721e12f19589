"""A software TPM (swtpm) made to look like the one of an Azure VM: key, NV index, PCR 8. Skips where it is missing."""

import base64
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from struct import Struct, pack

import pytest

from attestation.azure.issuer import AK_HANDLE, HCL_INDEX
from attestation.azure.tpm import POLICY_PCR, Transport
from tests.support.vendor import launch, vendor_chain

_HEADER = Struct(">HII")
_OWNER = 0x40000001
_PASSWORD = pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_CREATE_PRIMARY, _EVICT, _NV_DEFINE, _NV_WRITE, _PCR_EXTEND = 0x131, 0x120, 0x12A, 0x137, 0x182
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
_SIGNING_KEY = 0x00050072
_RSASSA_SHA256 = pack(">HH", 0x0014, 0x000B)
_NV_OPEN = 0x00040004 | 0x02000002  # authWrite, authRead, ownerWrite, ownerRead


@contextmanager
def swtpm(folder: Path) -> Iterator[Transport]:
    """A TPM that has just been switched on; gives what sends it a command."""
    program = shutil.which("swtpm")
    if program is None:
        pytest.skip("swtpm is not installed (package swtpm)")
    path = folder / "tpm.sock"
    (folder / "state").mkdir()
    argv = [program, "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}", "--flags", "startup-clear"]
    argv += ["--server", f"type=unixio,path={path}", "--flags", "not-need-init,startup-clear"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        try:
            for _ in range(100):
                if path.exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(30)
                stream.connect(str(path))

                def send(command: bytes) -> bytes:
                    stream.sendall(command)
                    answer = stream.recv(10)
                    while len(answer) < 10 or len(answer) < _HEADER.unpack_from(answer)[1]:
                        answer += stream.recv(4096)
                    return answer

                yield send
        finally:
            process.terminate()


def run(send: Transport, code: int, body: bytes) -> bytes:
    answer = send(_HEADER.pack(0x8002, _HEADER.size + len(body), code) + body)
    result = _HEADER.unpack_from(answer)[2]
    assert result == 0, f"command {code:#x}: {result:#x}"
    return answer[_HEADER.size :]


def make_azure(send: Transport, policy: bytes, *, named: int | None = None) -> None:
    """Give the TPM an attestation key, a report that names it (or the modulus *named*), and the policy in PCR 8."""
    modulus = _attestation_key(send)
    number = int.from_bytes(modulus, "big") if named is None else named
    blob = hcl_blob(number)
    _nv(send, blob)
    extend(send, policy)


def hcl_blob(modulus: int) -> bytes:
    """The paravisor's blob around a report that a simulated processor signs."""
    text = base64.urlsafe_b64encode(modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")).decode().rstrip("=")
    key = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": text}
    runtime = json.dumps({"keys": [key], "vm-configuration": {"secure-boot": True}, "user-data": "00"}).encode()
    report = launch(vendor_chain()).report(sha256(runtime).digest() + bytes(32))
    header = b"HCLA" + b"".join(number.to_bytes(4, "little") for number in (1, 0, 2, 0, 0, 0, 0))
    sizes = (20 + len(runtime), 1, 2, 1, len(runtime))
    blob = header + report + b"".join(size.to_bytes(4, "little") for size in sizes) + runtime
    return blob.ljust(2048, b"\0")  # As much as an NV index of swtpm holds.


def extend(send: Transport, digest: bytes, pcr: int = POLICY_PCR) -> None:
    body = pack(">I", pcr) + _PASSWORD + pack(">IH", 1, 0x000B) + digest
    run(send, _PCR_EXTEND, body)


def _attestation_key(send: Transport) -> bytes:
    sensitive = pack(">HH", 0, 0)
    rsa = pack(">H", 0x0010) + _RSASSA_SHA256 + pack(">HI", 2048, 0)
    public = pack(">HHIH", 0x0001, 0x000B, _SIGNING_KEY, 0) + rsa + pack(">H", 0)
    body = pack(">I", _OWNER) + _PASSWORD
    body += pack(">H", len(sensitive)) + sensitive + pack(">H", len(public)) + public + pack(">HI", 0, 0)
    answer = run(send, _CREATE_PRIMARY, body)
    handle = answer[:4]
    size = int.from_bytes(answer[8:10], "big")
    made = answer[10 : 10 + size]
    modulus = made[-256:]
    run(send, _EVICT, pack(">I", _OWNER) + handle + _PASSWORD + pack(">I", AK_HANDLE))
    return modulus


def _nv(send: Transport, blob: bytes) -> None:
    public = pack(">IHIHH", HCL_INDEX, 0x000B, _NV_OPEN, 0, len(blob))
    body = pack(">I", _OWNER) + _PASSWORD + pack(">H", 0) + pack(">H", len(public)) + public
    run(send, _NV_DEFINE, body)
    for start in range(0, len(blob), 512):
        chunk = blob[start : start + 512]
        body = pack(">II", HCL_INDEX, HCL_INDEX) + _PASSWORD + pack(">H", len(chunk)) + chunk + pack(">H", start)
        run(send, _NV_WRITE, body)
