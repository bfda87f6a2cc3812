"""Wrap, unwrap, versions and rotation with the real SDK against the fake, over both transports."""

from __future__ import annotations

from providers.gcp.fake import KEY
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon


def test_what_was_wrapped_is_unwrapped(make: Make, served: Served) -> None:
    provider = make(served)
    assert provider.open(soon()) == KEY
    version = provider.current_version(soon())
    wrapped = provider.wrap(KEK, CONTEXT, version, soon())
    assert (version, wrapped.version) == ("1", "1")
    assert provider.unwrap(wrapped.blob, CONTEXT, wrapped.version, soon()) == KEK
