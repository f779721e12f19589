"""The program as on a terminal: a pseudo-terminal of a given width, and what was written to it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path


def on_terminal(columns: int, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run *command* as on a terminal that is *columns* wide; exit code and all that was written to it."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environ = {**os.environ, **(env or {}), "TERM": "xterm-256color"}
    environ.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command], cwd=cwd, stdin=other, stdout=other, stderr=other, env=environ
    )
    os.close(other)
    written = bytearray()
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # The last writer is gone: so Linux says end of file of a terminal.
            break
        if not piece:
            break
        written += piece
    os.close(main)
    return process.wait(), written.decode()


def plain(text: str) -> str:
    """*text* without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
