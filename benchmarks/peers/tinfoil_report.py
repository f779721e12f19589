"""Runs inside the peer's own environment: judges reports with PyPI tinfoil. JSON on stdin, JSON on stdout.

Input ``{"reports": [{"name", "report", "vek"} in base64], "rounds": N}``; for each report the word of its defaults and
of an empty policy, and, where the empty policy accepts, seconds for N verdicts, certificates parsed each time.
"""

import base64
import importlib
import json
import os
import sys
import time
import warnings
from typing import Any


def main() -> None:
    warnings.simplefilter("ignore")
    output, sys.stdout = sys.stdout, sys.stderr  # The peer prints what it thinks.
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[-1]})
    tinfoil = importlib.import_module("tinfoil.attestation.attestation_sev")
    empty = importlib.import_module("tinfoil.attestation.validate_sev").ValidationOptions()
    task = json.load(sys.stdin)
    answers = []
    for item in task["reports"]:
        vek = base64.b64decode(item["vek"])

        def judge(options: Any, body: str = item["report"], vek: bytes = vek) -> str:
            try:
                tinfoil.verify_sev_report(body, is_compressed=False, validation_options=options, vcek_der=vek)
            except Exception as error:  # noqa: BLE001 whatever the peer raises is its refusal
                cause = error.__cause__ or error
                return f"{type(cause).__name__}: {cause}"[:200]
            return "accepted"

        answer = {"name": item["name"], "default": judge(None), "empty": judge(empty), "seconds": 0.0}
        if answer["empty"] == "accepted":
            began = time.perf_counter()
            for _ in range(task["rounds"]):
                judge(empty)
            answer["seconds"] = time.perf_counter() - began
        answers.append(answer)
    json.dump(answers, output)


if __name__ == "__main__":
    main()
