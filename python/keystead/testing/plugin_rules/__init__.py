"""The rules for plugin sockets, one file for each thing that they are about. They know nothing of Keystead's own."""

from __future__ import annotations

from keystead.testing.plugin_rules import first, hostile, lasting, shape, tampering
from keystead.testing.plugin_rules.book import BOOK, PluginCase

__all__ = ["BOOK", "PluginCase", "first", "hostile", "lasting", "shape", "tampering"]
