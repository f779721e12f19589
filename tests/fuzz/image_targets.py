"""What is fuzzed of images: readers of what registries, layers, docker's configuration and lock files say."""

import io

from images.build import CONFIG_TYPE, MANIFEST_TYPE, TAR_TYPE, ImageSpec, build_image, descriptor
from images.challenges import parse_challenges
from images.errors import ImageError
from images.layers import LayerStream
from images.lock import parse_lock
from images.model import Descriptor, image_of, is_index, json_object, select
from images.reference import parse_reference
from images.tar import TarWalker
from images.tarfs import TarfsIndex
from tests.fuzz.targets import Target

_BUILT = build_image(ImageSpec(entrypoint=("/app",)))
_LOCK = (
    b'{"version":1,"platform":"linux/amd64","images":{"r.example/a:v1@sha256:' + b"1" * 64 + b'":{"manifest":"sha256:'
    + b"1" * 64 + b'","config":"sha256:' + b"2" * 64 + b'","accounts":"sha256:' + b"3" * 64 + b'","layers":[]}}}'
)  # fmt: skip


def _tar(raw: bytes) -> object:
    index = TarfsIndex()

    def visit(member: object) -> bool:
        index.add(member)  # type: ignore[arg-type]  # the walker gives Members
        return True

    walker = TarWalker(visit)
    for start in range(0, len(raw), 700):
        walker.feed(raw[start : start + 700])
    walker.finish()
    packed = index.pack(len(raw))
    assert (len(raw) + len(packed)) % 4096 == 0
    return packed


def _manifest(raw: bytes) -> object:
    document = json_object(raw, "fuzz")
    if is_index(document):
        return select(document, "sha256:" + "0" * 64)
    return image_of(document, _BUILT.config, digest="sha256:" + "0" * 64, manifest_digest="sha256:" + "0" * 64)


def _config(raw: bytes) -> object:
    document = {"config": descriptor(CONFIG_TYPE, raw), "layers": [descriptor(TAR_TYPE, b"")]}
    return image_of(dict(document), raw, digest="sha256:" + "0" * 64, manifest_digest="sha256:" + "0" * 64)


def _layer(raw: bytes) -> object:
    kind = ("", "+gzip", "+zstd")[len(raw) % 3]
    layer = Descriptor(media_type=TAR_TYPE + kind, digest="sha256:" + "0" * 64, size=len(raw))
    stream = LayerStream(io.BytesIO(raw), layer, "sha256:" + "0" * 64)
    try:
        stream.finish()
    finally:
        stream.close()
    return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


IMAGE_TARGETS: dict[str, Target] = {
    "image_tar": Target(_tar, (ImageError,), (), (_BUILT.layers[0],)),
    "image_manifest": Target(_manifest, (ImageError,), (), (_BUILT.manifest,)),
    "image_config": Target(_config, (ImageError,), (), (_BUILT.config,)),
    "image_layer": Target(_layer, (ImageError,), (), (_BUILT.layers[0], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")),
    "image_reference": Target(
        lambda raw: parse_reference(_text(raw)), (ImageError,), (), (b"r.example:5000/a/b:v1@sha256:" + b"1" * 64,)
    ),
    "image_lock": Target(parse_lock, (ImageError,), (), (_LOCK, MANIFEST_TYPE.encode())),
    "challenge": Target(
        lambda raw: parse_challenges([_text(raw)]), (), (), (b'Bearer realm="https://a/t",service="s",scope="x"',)
    ),
}
