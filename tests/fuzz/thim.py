"""Fuzzes the target `thim` of `targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("thim")
