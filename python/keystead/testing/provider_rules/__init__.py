"""The rules for providers, one file for each thing that they are about."""

from __future__ import annotations

from keystead.testing.provider_rules import (
    binding,
    credentials,
    declaration,
    lifecycle,
    load,
    network,
    refusal,
    remote,
    secrecy,
    time_limit,
    versions,
    wrapping,
)
from keystead.testing.provider_rules.book import BOOK

__all__ = [
    "BOOK",
    "binding",
    "credentials",
    "declaration",
    "lifecycle",
    "load",
    "network",
    "refusal",
    "remote",
    "secrecy",
    "time_limit",
    "versions",
    "wrapping",
]
