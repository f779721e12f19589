"""Debian's docker-registry on loopback with TLS and passwords, and images made by umoci and pushed by skopeo."""

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest

from tests.support.registry import PASSWORD, USER, basic, server_tls

PROGRAMS = ("docker-registry", "skopeo", "umoci")


def need_programs() -> None:
    """Skip the test where the programs are not installed."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install docker-registry skopeo umoci")


class RealRegistry:
    """A running registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _context, self.ca, both = server_tls(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        (folder / "htpasswd").write_bytes(USER.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)))
        self.data = folder / "data"
        self._config = folder / "registry.json"  # JSON is YAML.
        self._config.write_text(
            json.dumps({
                "version": 0.1, "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(self.data)}},
                "http": {"addr": self.host, "tls": {"certificate": str(self.ca), "key": str(both)}},
                "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
            })
        )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve, until the block ends."""
        with (self.folder / "registry.log").open("ab") as log:
            process = subprocess.Popen(["docker-registry", "serve", str(self._config)], stdout=log, stderr=log)
        try:
            self._wait(process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        host, port = self.host.split(":")
        for _ in range(600):
            assert process.poll() is None, (self.folder / "registry.log").read_text()
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the registry did not begin to listen")

    def push(self, name: str, files: Mapping[str, str], *config: str) -> None:
        """Make an image with umoci and push it with skopeo."""
        layout, bundle = self.folder / f"layout-{name.replace('/', '-')}", self.folder / "bundle"
        run("umoci", "init", "--layout", str(layout))
        run("umoci", "new", "--image", f"{layout}:v1")
        run("umoci", "unpack", "--rootless", "--image", f"{layout}:v1", str(bundle))
        for path, text in files.items():
            target = bundle / "rootfs" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        run("umoci", "repack", "--image", f"{layout}:v1", str(bundle))
        run("umoci", "config", "--image", f"{layout}:v1", *config)
        shutil.rmtree(bundle)
        target_name = f"docker://{self.host}/{name}:v1"
        run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}",
            f"oci:{layout}:v1", target_name)  # fmt: skip

    def put_manifest(self, name: str, tag: str, media_type: str, raw: bytes) -> None:
        """Upload a manifest or index."""
        request = urllib.request.Request(
            f"https://{self.host}/v2/{name}/manifests/{tag}", data=raw, method="PUT",
            headers={"Content-Type": media_type, "Authorization": basic(USER, PASSWORD)},
        )  # fmt: skip
        context = ssl.create_default_context(cafile=str(self.ca))
        urllib.request.urlopen(request, context=context).close()  # noqa: S310 https

    def docker_config(self, folder: Path, *, helper: bool = False) -> dict[str, str]:
        """An environment in which docker would be logged in here."""
        folder.mkdir(exist_ok=True)
        config: object = {"auths": {self.host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}
        if helper:
            program = folder / "docker-credential-tests"
            answer = json.dumps({"ServerURL": self.host, "Username": USER, "Secret": PASSWORD})
            program.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
            program.chmod(0o755)
            config = {"credHelpers": {self.host: "tests"}}
        (folder / "config.json").write_text(json.dumps(config))
        return {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
