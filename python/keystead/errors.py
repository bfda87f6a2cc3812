"""Every error that Keystead raises on purpose, sorted by what the operator will do about it.

A message says what was tried, on what, and what the other side answered. It names no secret: no key bytes, no
plaintext, no token, no ciphertext. `keystead.server.codes` turns each class into one gRPC status code.
"""

from __future__ import annotations


class KeysteadError(Exception):
    """Base of all of them."""


# What a provider raises. `transient` says whether the same call may succeed by itself a little later.


class ProviderError(KeysteadError):
    """The remote KMS did not do what was asked. Raise one of the subclasses, never this class."""

    transient = False


class Unavailable(ProviderError):
    """Not reachable, timed out, sealed, or an internal error of the remote: wait, or look at the network."""

    transient = True


class Throttled(ProviderError):
    """The remote refuses because of a rate limit or quota: lower the rate or raise the quota."""

    transient = True


class Unauthenticated(ProviderError):
    """The remote does not accept our credentials: renew or replace them."""


class PermissionDenied(ProviderError):
    """Our credentials are fine, but may not do this: fix the policy."""


class KeyNotFound(ProviderError):
    """The remote key does not exist (any more): fix the configuration, or restore the key."""


class KeyDisabled(ProviderError):
    """The key, or the version that is needed, exists but is disabled or scheduled for deletion: enable it."""


class InvalidCiphertext(ProviderError):
    """The remote refuses the bytes: not wrapped by this key, with this context, or damaged."""


class ConfigError(ProviderError):
    """The configuration cannot work whatever the remote does: change it."""


class Misbehaved(ProviderError):
    """The remote or its adapter answered something that cannot be right: report it, and do not trust this key."""


# What the host raises for one call of kube-apiserver.


class MalformedRequest(KeysteadError):
    """The bytes are not a request, a ciphertext or a record of ours, or break a size limit."""


class NotAuthentic(KeysteadError):
    """The bytes have the right form but fail a MAC, the key commitment, or the AEAD."""


class ClusterNotAccepted(KeysteadError):
    """The record was made for a cluster label that the configuration does not accept."""


class NoConfiguredMember(KeysteadError):
    """No key that the record is wrapped under is configured for this endpoint."""


class NotReady(KeysteadError):
    """There is no local KEK to encrypt under yet."""


class Overloaded(KeysteadError):
    """Too many calls wait for a remote KMS already."""


class TimedOut(KeysteadError):
    """The remote did not answer within the time that this call has; the unwrap goes on in the background."""


class Unsafe(KeysteadError):
    """A check of our own failed (what was sealed does not open, or there is no randomness): refuse to write."""
