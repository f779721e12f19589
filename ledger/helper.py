"""One helper process and the pipes to it: started, fed, asked, ended. Knows nothing of what it computes.

A helper is a module of this package run by our own interpreter. It has no key and no network, gets its work on its
input and answers on its output. A dead one says that it is not ready, and its owner does the work instead.
"""

import os
import select
import subprocess
import sys
from typing import Final

READY: Final = b"r"  # a helper writes it once it has started up


class HelperProcess:
    """The process of one module. Nothing here raises: what a helper cannot do is done elsewhere."""

    def __init__(self, module: str, *arguments: str) -> None:
        """Start ``python -m module arguments``; it is ready() a little later."""
        # The child finds this package where we found it, whatever its working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        self._is_ready = False
        self._process: subprocess.Popen[bytes] | None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # its death is seen, and mended, by the owner
                env=environment,
                start_new_session=True,  # an interrupt from the keyboard is for us
            )
        except OSError:  # no process to be had
            self._process = None

    def ready(self) -> bool:
        """True once the process has started up and while it lives; never waits."""
        process = self._process
        if process is None or process.poll() is not None or process.stdout is None:
            return False
        if not self._is_ready and select.select([process.stdout], [], [], 0)[0]:
            self._is_ready = os.read(process.stdout.fileno(), 1) == READY
        return self._is_ready

    def write(self, raw: bytes) -> bool:
        """Hand over *raw*; False if the process has died."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(raw)
            self._process.stdin.flush()
        except OSError:
            self.stop()
            return False
        return True

    def read(self, count: int) -> bytes | None:
        """The next *count* bytes of its answer; None if it died before it could say."""
        if self._process is None or self._process.stdout is None:
            return None
        raw = self._process.stdout.read(count)
        if len(raw) != count:
            self.stop()
            return None
        return raw

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not written has no reader any more
                    continue
        process.wait()
