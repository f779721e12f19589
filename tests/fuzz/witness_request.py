"""Fuzzes the target `witness_request` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("witness_request")
