"""Fuzzes the target `tile_path` of `ledger_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("tile_path")
