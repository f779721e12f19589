"""Fuzzes the target `pck` of `targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("pck")
