"""Fuzzes the target `challenge` of `image_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("challenge")
