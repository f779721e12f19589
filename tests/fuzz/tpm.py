"""Fuzzes the target `tpm` of `targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("tpm")
