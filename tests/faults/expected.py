"""What each fault of a remote KMS has to look like: the code of a Decrypt that needs it, and the class in metrics."""

from __future__ import annotations

from dataclasses import dataclass

from grpc import StatusCode

PROVIDERS = ("aws-kms", "gcp-kms", "vault-transit")


@dataclass(frozen=True)
class Expected:
    """How a Decrypt ends that needs the remote. Several classes where it depends on who loses patience first."""

    code: StatusCode
    decrypt: tuple[str, ...]
    """Label `result` of `keystead_cold_decrypt_seconds`."""
    call: tuple[str, ...]
    """Label `result` of `keystead_provider_request_duration_seconds` for `unwrap`."""


def _same(code: StatusCode, name: str) -> Expected:
    return Expected(code, (name,), (name,))


def _everywhere(expected: Expected) -> dict[str, Expected]:
    return dict.fromkeys(PROVIDERS, expected)


_AWAY = _same(StatusCode.UNAVAILABLE, "Unavailable")
_SLOW = Expected(StatusCode.UNAVAILABLE, ("TimedOut", "Unavailable"), ("Unavailable",))
_LIMITED = _same(StatusCode.RESOURCE_EXHAUSTED, "Throttled")
_DISABLED = _same(StatusCode.FAILED_PRECONDITION, "KeyDisabled")
_MISSING = _same(StatusCode.FAILED_PRECONDITION, "KeyNotFound")

FAULTS: dict[str, dict[str, Expected]] = {
    "connection refused": _everywhere(_AWAY),
    "black hole": _everywhere(_SLOW),
    "server stopped (SIGSTOP)": _everywhere(_SLOW),
    "answer trickles": _everywhere(_SLOW),
    "reset within the answer": _everywhere(_AWAY),
    "redirect to a foreign host": {"aws-kms": _AWAY, "vault-transit": _AWAY},
    "token expired": _everywhere(_same(StatusCode.UNAUTHENTICATED, "Unauthenticated")),
    "denied": _everywhere(_same(StatusCode.PERMISSION_DENIED, "PermissionDenied")),
    "key not found": _everywhere(_MISSING),
    "rate limit": _everywhere(_LIMITED),
    "rate limit with Retry-After": {"aws-kms": _LIMITED, "vault-transit": _LIMITED},
    "internal error": _everywhere(_AWAY),
    "sealed": {"vault-transit": _AWAY},
    "key disabled": _everywhere(_DISABLED),
    "key destroyed": {"aws-kms": _DISABLED, "gcp-kms": _DISABLED, "vault-transit": _MISSING},
    "key made anew": {"vault-transit": _same(StatusCode.DATA_LOSS, "InvalidCiphertext")},
    "replica that lags": {"vault-transit": _AWAY},
    "another key returned": _everywhere(Expected(StatusCode.DATA_LOSS, ("NotAuthentic",), ("OK",))),
}
"""By fault and provider. A provider that cannot have a fault is not named."""

HEALTHY = "none"
"""The name of a measurement without a fault."""

CASES = [(provider, fault) for provider in PROVIDERS for fault, of in FAULTS.items() if provider in of]

SLOW = {"black hole", "server stopped (SIGSTOP)", "answer trickles"}
"""Faults that are over when the unwrap's own time is, after ten seconds."""

LEADER_KILLED = "leader killed (of three servers)"
"""A fault of its own: the two others answer."""
