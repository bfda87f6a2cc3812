"""What Status and Encrypt answer from: one immutable value, so that they never contradict each other."""

from __future__ import annotations

from dataclasses import dataclass

from keystead import errors
from keystead._core import WriteState, encode_status

HEALTHZ_SIZE = 400
"""Characters of a health text at most: kube-apiserver copies it into its own answers and logs."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Status and Encrypt answer from; replaced as a whole."""

    writing: WriteState | errors.KeysteadError
    """What Encrypt uses, or why it refuses."""
    key_id: str
    healthz: str
    status: bytes
    """The encoded StatusResponse."""

    @classmethod
    def of(cls, writing: WriteState | errors.KeysteadError, key_id: str, healthz: str, status_version: str) -> Snapshot:
        """Cut the health text to size and encode the answer to Status."""
        if len(healthz) > HEALTHZ_SIZE:
            healthz = healthz[: HEALTHZ_SIZE - 1] + "…"
        return cls(writing, key_id, healthz, encode_status(status_version, healthz, key_id))
