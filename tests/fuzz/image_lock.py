"""Fuzzes the target `image_lock` of `image_targets`."""

from tests.fuzz.program import main

if __name__ == "__main__":
    main("image_lock")
