"""What can be wrong with an image; every message says what was seen, what was wanted and what to do."""


class ImageError(Exception):
    """The base of everything that this package refuses; ``code`` is stable."""

    code = "image_refused"


class ReferenceInvalidError(ImageError):
    """An image reference that does not follow the grammar, or names no digest where one is required."""

    code = "image_reference_invalid"


class ImageNotFoundError(ImageError):
    """No given layout holds the image."""

    code = "image_not_found"


class DigestMismatchError(ImageError):
    """Bytes that are not those their digest names: somebody or something changed them."""

    code = "image_digest_mismatch"


class LayoutError(ImageError):
    """An index, manifest, configuration or layer that does not follow the OCI image specification."""

    code = "image_malformed"


class UnsupportedImageError(ImageError):
    """A well-formed image that this version cannot use (platform, compression, digest algorithm)."""

    code = "image_unsupported"


class ImageTooLargeError(ImageError):
    """A blob, a layer or a number of files beyond the limits."""

    code = "image_too_large"


class UnsafeLayerError(ImageError):
    """A layer entry that tries to leave the root file system, or to write through a link that does."""

    code = "image_unsafe_layer"


class RegistryError(ImageError):
    """A registry, mirror or token server that does not answer as the specifications say."""

    code = "registry_failed"


class RegistryUnreachableError(RegistryError):
    """Nobody answered, or not in time, or not over a connection that is trusted."""

    code = "registry_unreachable"


class RegistryDeniedError(RegistryError):
    """The registry wants other credentials than those it got, or any at all."""

    code = "registry_denied"


class CredentialsError(ImageError):
    """Docker's configuration, or a credential helper that it names, cannot be used."""

    code = "registry_credentials"


class CacheError(ImageError):
    """The cache directory is not private to this user, or cannot be used."""

    code = "image_cache"


class LockError(ImageError):
    """The lock file is malformed, or contradicts what was found."""

    code = "images_lock"
