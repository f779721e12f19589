"""Fuzzes the target `verifier_key` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("verifier_key")
