"""A process that reads layers for us, so that two cores hash at once; decides nothing, and can always be done without.

Requests and answers are JSON, one a line, on its standard input and output. It has our interpreter and our packages, no
key and no network. When it dies, its owner reads the layer itself.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

from images import errors
from images.errors import ImageError
from images.layerscan import Event, Kind, LayerFile, LayerScan, scan_layer
from images.model import Descriptor
from images.unpack import Budget


class ScanHelper:
    """The owner's side."""

    def __init__(self) -> None:
        # The child finds this package where we found it, whatever its working directory.
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # No process to be had: then it is done without.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "images.scanhelper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,  # An interrupt from the keyboard is for us.
            )

    def scan(self, file: LayerFile) -> LayerScan | None:
        """What the layer says, root hash included; None if the process cannot tell.

        Raises:
            ImageError: the layer is damaged, tampered with or too large.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        request = {
            "path": str(file.path), "type": file.layer.media_type, "digest": file.layer.digest, "size": file.layer.size,
            "diff_id": file.diff_id,
        }  # fmt: skip
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self.stop()
            return None
        if "error" in answer:
            kind = getattr(errors, answer["error"], ImageError)
            raise kind(answer["message"])
        return LayerScan(
            events=[
                Event(path=path, kind=Kind(kind), target=target, data=base64.b64decode(data))
                for path, kind, target, data in answer["events"]
            ],
            hidden=set(answer["hidden"]),
            root=bytes.fromhex(answer["root"]),
        )

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # What was not written has no reader any more.
                    pipe.close()
        process.wait()


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    budget = Budget()
    for line in requests:
        request = json.loads(line)
        layer = Descriptor(media_type=request["type"], digest=request["digest"], size=request["size"])
        file = LayerFile(path=Path(request["path"]), layer=layer, diff_id=request["diff_id"])
        answer: dict[str, object]
        try:
            found = scan_layer(file, budget, verity=True)
        except ImageError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        else:
            answer = {
                "events": [
                    (event.path, event.kind, event.target, base64.b64encode(event.data).decode())
                    for event in found.events
                ],
                "hidden": sorted(found.hidden),
                "root": (found.root or b"").hex(),
            }
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
