"""Where the program `contrast` starts: an interrupt ends it alike before, while and after commands are loaded."""

import importlib
import os
import sys
from pathlib import Path

_INTERRUPTED = 130  # As shells count it: 128 + SIGINT.


def main() -> None:
    """Run the program."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # Closed by whoever started us: the next file opened would take its number.
            nothing = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115 stays open
            setattr(sys, name, nothing)
    try:
        # Loading takes longer than many a command; whoever types Ctrl-C meanwhile is owed no traceback.
        importlib.import_module("cli.program").run()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
