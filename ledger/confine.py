"""What a process can give up by itself, with the standard library and the kernel alone. Starts no process.

A store process reads a file that belongs to the host, by C code. Should that code be taken over, it finds: no key (the
environment and every descriptor but its two sockets stayed with the parent), no way to a new socket, to another program
or into another process (a seccomp filter, on x86-64 and arm64), no network namespace with anything in it (where the
kernel lets it make one), no core file, no new privileges, and 2 GiB of memory at most. It can still read files that its
user may read.
"""

import ctypes
import os
import platform
import resource
import struct
from typing import Final

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER: Final = 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIGKILL: Final = 9
_MAX_DATA: Final = 2 * 2**30
# Architecture as the audit subsystem numbers it; then socket, execve, execveat, ptrace, process_vm_readv,
# process_vm_writev, bpf, io_uring_setup.
_SYSCALLS: Final = {
    "x86_64": (0xC000003E, (41, 59, 322, 101, 310, 311, 321, 425)),
    "aarch64": (0xC00000B7, (198, 221, 281, 117, 270, 271, 280, 425)),
}
_X32_BIT: Final = 0x40000000


def confine() -> tuple[str, ...]:
    """Give up what can be given up; says what now holds. Call it before there are threads."""
    held: list[str] = []
    libc = ctypes.CDLL(None, use_errno=True)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_DATA, _MAX_DATA))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held.append("limits")
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append("no new privileges")
    if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        held.append("no network")
    if _filter_syscalls(libc):
        held.append("no sockets, no programs")
    return tuple(held)


def _filter_syscalls(libc: ctypes.CDLL) -> bool:
    """Let the calls of _SYSCALLS fail with EPERM from now on."""
    known = _SYSCALLS.get(platform.machine())
    if known is None:
        return False
    architecture, numbers = known
    code = _program(architecture, numbers)
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: number of instructions, pointer to them.
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    return int(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)) == 0


def _program(architecture: int, numbers: tuple[int, ...]) -> bytes:
    """Classic BPF over struct seccomp_data (number at 0, architecture at 4)."""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
    count = len(numbers)

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    lines = [
        instruction(load, 0, 0, 4),
        instruction(equal, 0, count + 3, architecture),  # another one's numbers mean other calls
        instruction(load, 0, 0, 0),
        instruction(at_least, count + 1, 0, _X32_BIT),
        *(instruction(equal, count - at, 0, number) for at, number in enumerate(numbers)),
        instruction(answer, 0, 0, allow),
        instruction(answer, 0, 0, refuse),
    ]
    return b"".join(lines)
