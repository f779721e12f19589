"""Fuzzes the target `fork_evidence` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("fork_evidence")
