"""Builds the images of the emojivoto example as one OCI layout, byte for byte the same everywhere, without network.

    build_images.py [--output images] [--tag v2 --only web]

Prints the pinned reference of every image. --tag and --only make a second version of one service; web's page says so.
The layers hold the programs alone: in a cluster they would stand on a base image with Python, here the machine has one.
"""

import argparse
from pathlib import Path

from images.build import DEFAULT_PATH, File, ImageSpec, build_image, write_layout

APPS = Path(__file__).resolve().parent / "apps"
REPOSITORY = "contrast.invalid/emojivoto"
FIRST_TAG = "v1"
FILES = {
    "web": ("web.py", "service.py", "page.html"),
    "emoji": ("emoji.py", "service.py", "catalogue.txt"),
    "voting": ("voting.py", "service.py"),
    "vote-bot": ("vote_bot.py", "service.py"),
}


def image_spec(service: str, tag: str) -> ImageSpec:
    """What the image of *service* holds, and how it runs."""
    names = FILES[service]
    files = {f"app/{name}": File(data=(APPS / name).read_bytes()) for name in names}
    files["app/version.txt"] = File(data=f"{tag}\n".encode())
    return ImageSpec(
        files={**files},
        entrypoint=("python3", f"/app/{names[0]}"),
        env=(DEFAULT_PATH, "PYTHONDONTWRITEBYTECODE=1"),  # the root file system is read-only
        user="65532:65532",
    )


def specs(tag: str, only: str | None) -> dict[str, ImageSpec]:
    """Every image at its first version, and those that are asked for at *tag*."""
    first = {f"{REPOSITORY}/{service}:{FIRST_TAG}": image_spec(service, FIRST_TAG) for service in FILES}
    asked = [only] if only else list(FILES)
    return first | {f"{REPOSITORY}/{service}:{tag}": image_spec(service, tag) for service in asked}


def references(tag: str = FIRST_TAG, only: str | None = None) -> list[str]:
    """The pinned references, without writing anything."""
    return [f"{name}@{build_image(spec).digest}" for name, spec in specs(tag, only).items()]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build the images of the emojivoto example as an OCI layout.")
    parser.add_argument("--output", type=Path, default=Path("images"), help="the layout's directory (default: images)")
    parser.add_argument("--tag", default=FIRST_TAG, help=f"the version to build (default: {FIRST_TAG})")
    parser.add_argument("--only", choices=sorted(FILES), help="the service that --tag is for (default: all)")
    chosen = parser.parse_args(arguments)
    for name, digest in write_layout(chosen.output, specs(chosen.tag, chosen.only)).items():
        print(f"{name}@{digest}")


if __name__ == "__main__":
    main()
