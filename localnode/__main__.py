"""The detached node's program; `contrast dev run --detach` starts it. People use `contrast dev run`."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from images.errors import ImageError
from k8s.problems import ResourceError
from localnode.errors import LocalNodeError
from localnode.node import NodeSettings, run_node


def main() -> int:
    """Run the node in the foreground; one JSON line for every change, and one for a failure."""
    parser = argparse.ArgumentParser(prog="python -m localnode")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--network")
    parser.add_argument("--load-balancer", default="127.0.0.1")
    parser.add_argument("--coordinator")
    parser.add_argument("--images", type=Path, action="append", default=[])
    parser.add_argument("paths", type=Path, nargs="+")
    chosen = parser.parse_args()
    settings = NodeSettings(
        root=chosen.root,
        paths=tuple(chosen.paths),
        network=chosen.network,
        load_balancer=chosen.load_balancer,
        coordinator=chosen.coordinator,
        images=tuple(chosen.images),
    )
    try:
        return asyncio.run(
            run_node(settings, environ=dict(os.environ), report=lambda item: print(item.json(), flush=True))  # noqa: T201  its log
        )
    except (LocalNodeError, ResourceError, ImageError) as error:
        code = getattr(error, "code", "refused")
        print(json.dumps({"event": "failed", "code": code, "detail": str(error)}), flush=True)  # noqa: T201  its log
        return 1


if __name__ == "__main__":
    sys.exit(main())
