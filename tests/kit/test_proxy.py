"""The fault proxy keeps its place: what it does to a provider is what it was told, whoever else uses the machine."""

from __future__ import annotations

import socket

import pytest

from keystead.testing import FakeKms, FaultProxy


def connects(proxy: FaultProxy) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", proxy.port)) == 0


def test_while_connections_are_refused_nobody_else_can_have_the_port() -> None:
    proxy = FaultProxy()
    with FakeKms().serve() as kms:
        proxy.to(kms.url.removeprefix("http://"))
        address = proxy.address
        for _ in range(3):
            assert connects(proxy)
            with proxy.refused():
                assert not connects(proxy)
                with socket.socket() as other:
                    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    with pytest.raises(OSError, match="Address already in use"):
                        other.bind(("127.0.0.1", proxy.port))
            assert proxy.address == address
    proxy.close()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", proxy.port))
