"""Fuzzes the target `cosigned` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("cosigned")
