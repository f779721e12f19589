"""Fuzzes the target `epoch_fork_evidence` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("epoch_fork_evidence")
