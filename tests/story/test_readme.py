"""The README's commands run as they stand there: typed into one shell, in their order, none left out, none changed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.story import ROOT, programs

_PATIENCE_S = 240
# The ports are the README's, so the machine is one of its own: whatever listens here is not met there, and nothing that
# was started there outlives it.
_ALONE = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_LOOPBACK_UP = """
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
    fcntl.ioctl(some, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
"""


def by_hand() -> str:
    """The block of shell commands under "The same, by hand"."""
    section = (ROOT / "README.md").read_text().partition("## The same, by hand\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_commands_of_the_readme_work_typed(tmp_path: Path) -> None:
    """The first thing that a stranger does would fail."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("unshare (util-linux) cannot make namespaces here, and the README's ports may be taken")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = "\n".join(("set -e -o pipefail", f"{sys.executable} -c '{_LOOPBACK_UP}'", by_hand(), "echo all was typed"))
    done = subprocess.run(
        [*_ALONE, "bash", "-c", script],
        cwd=tmp_path,
        env=programs(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_PATIENCE_S,
        check=False,
    )
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said
    assert said.endswith("all was typed\n"), said
    for wanted in (
        "manifest 1 is in force",
        "cert.1.pem: OK",
        "as decided then: every decision follows",
        '"ready": true',
    ):
        assert wanted in said, said
