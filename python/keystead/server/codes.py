"""Which gRPC status code and text each error becomes: the one place that knows (docs/errors.md is its manual)."""

from __future__ import annotations

from grpc import StatusCode

from keystead import errors

_CODES: dict[type[errors.KeysteadError], StatusCode] = {
    errors.MalformedRequest: StatusCode.INVALID_ARGUMENT,
    errors.NotAuthentic: StatusCode.DATA_LOSS,
    errors.InvalidCiphertext: StatusCode.DATA_LOSS,
    errors.NoConfiguredMember: StatusCode.FAILED_PRECONDITION,
    errors.ClusterNotAccepted: StatusCode.FAILED_PRECONDITION,
    errors.KeyNotFound: StatusCode.FAILED_PRECONDITION,
    errors.KeyDisabled: StatusCode.FAILED_PRECONDITION,
    errors.ConfigError: StatusCode.FAILED_PRECONDITION,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.Throttled: StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.TimedOut: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.UNAVAILABLE,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.Misbehaved: StatusCode.INTERNAL,
    errors.Unsafe: StatusCode.INTERNAL,
}
_TEMPORARY = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})

# Kubernetes 1.37 reports any failed Decrypt as a "corrupt object" and lets an administrator delete it unread.
TEMPORARY_HINT = " [temporary, nothing is lost: do not delete objects]"
MAX_TEXT = 1024


def code_of(error: errors.KeysteadError) -> StatusCode:
    """The status code of an error; INTERNAL for a class that nobody listed."""
    return _CODES.get(type(error), StatusCode.INTERNAL)


def text_of(error: errors.KeysteadError) -> str:
    """What the API server shows: the message, shortened to 1 KiB, and for what will pass, that it will."""
    hint = TEMPORARY_HINT if code_of(error) in _TEMPORARY else ""
    room = MAX_TEXT - len(hint)
    # A file name that is not UTF-8 reaches a message as lone surrogates, which gRPC could not send.
    encoded = str(error).encode(errors="replace")
    if len(encoded) > room:
        return encoded[: room - 3].decode(errors="ignore") + "…" + hint
    return encoded.decode() + hint
