"""Fuzzes the target `entry` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("entry")
