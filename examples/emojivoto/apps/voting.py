"""The counts: one number per emoji. Internal; the saved file is authenticated with the pod's workload secret."""

import hashlib
import hmac
import json
import os
import threading
from http import HTTPStatus
from pathlib import Path

from service import Answer, Refusal, Request, allow_only, allowed_clients, choice_of, log, serve, tls_directory

MAX_CHOICES = 1000  # a bound for the memory a client can take


class Counts:
    """Counts in memory, saved after every vote when there is a workload secret to authenticate the file with.

    The host may keep or replace the volume, so a file whose MAC does not fit is not believed.
    """

    def __init__(self, path: Path, secret: bytes | None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._key = None if secret is None else hmac.digest(secret, b"emojivoto/votes/v1", hashlib.sha256)
        self._votes: dict[str, int] = self._load()

    def vote(self, choice: str) -> int:
        with self._lock:
            if choice not in self._votes and len(self._votes) >= MAX_CHOICES:
                raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "too_many", f"at most {MAX_CHOICES} choices are counted")
            self._votes[choice] = self._votes.get(choice, 0) + 1
            self._save()
            return self._votes[choice]

    def results(self) -> list[dict[str, object]]:
        with self._lock:
            ranked = sorted(self._votes.items(), key=lambda item: (-item[1], item[0]))
        return [{"shortcode": choice, "votes": votes} for choice, votes in ranked]

    def _save(self) -> None:
        if self._key is None:
            return
        body = json.dumps(self._votes).encode()
        new = self._path.with_suffix(".new")
        new.write_bytes(hmac.digest(self._key, body, hashlib.sha256).hex().encode() + b"\n" + body)
        new.replace(self._path)  # the old file or the new one, never half of either

    def _load(self) -> dict[str, int]:
        if self._key is None or not self._path.exists():
            return {}
        mac, _, body = self._path.read_bytes().partition(b"\n")
        if not hmac.compare_digest(mac, hmac.digest(self._key, body, hashlib.sha256).hex().encode()):
            log("saved_votes_refused", path=str(self._path), reason="the MAC does not fit this workload's secret")
            return {}
        votes: dict[str, int] = json.loads(body)
        log("saved_votes_loaded", choices=len(votes))
        return votes


def workload_secret() -> bytes | None:
    """The secret that the Initializer left beside the key, if the manifest names one for this pod."""
    path = tls_directory() / "workload-secret"
    return bytes.fromhex(path.read_text(encoding="ascii")) if path.exists() else None


def main() -> None:
    secret = workload_secret()
    counts = Counts(Path(os.environ.get("STATE_DIR", "/data")) / "votes", secret)
    clients = allowed_clients()
    log("workload_secret", present=secret is not None)

    def answer(request: Request) -> Answer:
        allow_only(request, clients)
        match request.method, request.path:
            case "POST", "/vote":
                choice = choice_of(request)
                return Answer.json({"shortcode": choice, "votes": counts.vote(choice)})
            case "GET", "/results":
                return Answer.json(counts.results())
            case _:
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "this service knows /vote and /results")

    serve(answer, service="voting", mutual=True)


if __name__ == "__main__":
    main()
