"""What a provider may answer and raise. Whatever it says in its types is still to be seen, for a vendor wrote it."""

from __future__ import annotations

from keystead import errors
from keystead.provider import KEK_SIZE, Wrapped

SEED_SIZE = 32
"""Bytes that kube-apiserver encrypts with, of either version. A plugin's health check encrypts fewer: those are known
to everybody, and must not come back as a key."""

_MAX_REF = 512
_MAX_VERSION = 64


class Answers:
    """Checks the answers of one key, and has its name in front of every error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def ref(self, ref: object, known: str | None) -> str:
        """Check what `open` returned. It never changes, so it is what was `known` before."""
        if not isinstance(ref, str) or not 1 <= len(ref) <= _MAX_REF or not _is_printable(ref):
            raise self.misbehaved(f"open returned a ref that is not 1 to {_MAX_REF} printable ASCII characters")
        if known not in (None, ref):
            raise self.misbehaved(f"open returned another ref than before: {ref}, and not {known}")
        return ref

    def version(self, version: object) -> str:
        """Check a version."""
        if not isinstance(version, str) or len(version) > _MAX_VERSION or not _is_printable(version):
            raise self.misbehaved(f"a version is not a string of up to {_MAX_VERSION} printable ASCII characters")
        return version

    def wrapped(self, answer: object, asked: str | None, max_blob: int) -> Wrapped:
        """Check what `wrap` returned when it was asked for a version, or for none."""
        if not isinstance(answer, Wrapped):
            raise self.misbehaved(f"wrap returned {type(answer).__name__} instead of Wrapped")
        self.version(answer.version)
        blob: object = answer.blob
        if not isinstance(blob, bytes) or not 1 <= len(blob) <= max_blob:
            raise self.misbehaved(f"wrap returned a blob that is not 1 to {max_blob} bytes")
        if asked is not None and answer.version != asked:
            raise self.misbehaved(f"wrap used version {answer.version!r}, asked was {asked!r}")
        return answer

    def kek(self, kek: object) -> bytes | bytearray:
        """Check what `unwrap` returned. Whether it is the right key shows when it is admitted to the store."""
        if not isinstance(kek, bytes | bytearray):
            raise self.misbehaved(f"unwrap returned {type(kek).__name__} instead of bytes")
        if len(kek) != KEK_SIZE:
            raise self.misbehaved(f"unwrap returned {len(kek)} bytes instead of {KEK_SIZE}")
        return kek

    def seed(self, seed: object) -> bytes | bytearray:
        """Check what `read` returned. All that kube-apiserver ever has stored is seeds and DEKs of 32 bytes."""
        if not isinstance(seed, bytes | bytearray):
            raise self.misbehaved(f"read returned {type(seed).__name__} instead of bytes")
        if len(seed) != SEED_SIZE:
            raise errors.InvalidCiphertext(
                f"key {self._name}: read: this holds {len(seed)} bytes, and a key of kube-apiserver has {SEED_SIZE}"
            )
        return seed

    def failure(self, operation: str, exc: BaseException) -> errors.ProviderError:
        """Return what an exception of the provider stands for: a class that the host knows, with a text to show."""
        if not isinstance(exc, errors.ProviderError):
            # The text of an exception that nobody classified may hold anything, so only its type is passed on.
            return self.misbehaved(f"{operation} raised {type(exc).__name__}, which the adapter should translate")
        known = next((base for base in type(exc).__mro__ if base.__module__ == errors.__name__), errors.ProviderError)
        if known is errors.ProviderError:
            return self.misbehaved(f"{operation} raised {type(exc).__name__}, which names no class of error")
        prefixed: errors.ProviderError = known(f"key {self._name}: {operation}: {exc}")
        return prefixed

    def misbehaved(self, what: str) -> errors.Misbehaved:
        """Return the error for an answer that cannot be right."""
        return errors.Misbehaved(f"key {self._name}: {what}")


def _is_printable(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)
