"""Pools of such connections as `_bounded` makes, for sessions of `requests`. Importing this imports `requests`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from requests.adapters import HTTPAdapter

from keystead.providers._bounded import POOL_SIZE, POOLS


class BoundedAdapter(HTTPAdapter):
    """Pools of connections whose answers end in time. No retries: the host of a provider does those."""

    def __init__(self, servers: int, options: Mapping[str, Any]) -> None:
        self._options = options
        super().__init__(pool_connections=servers, pool_maxsize=POOL_SIZE, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs, **self._options)
        self.poolmanager.pool_classes_by_scheme = dict(POOLS)

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, **self._options)
        manager.pool_classes_by_scheme = dict(POOLS)
        return manager

    def forget_connections(self) -> None:
        """Let new requests make new connections."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            manager.clear()
