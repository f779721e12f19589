"""Fuzzes the target `cose_receipt` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("cose_receipt")
