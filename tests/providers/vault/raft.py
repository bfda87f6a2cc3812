"""Three real servers with replicated storage, of which one leads."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keystead.provider import ProviderError
from providers.vault.bao import Bao, free_port, running

_NODE = """
storage "raft" {{
  path = "{directory}"
  node_id = "n{number}"
  performance_multiplier = 1
{joins}
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_disable = true
}}
seal "static" {{
  current_key_id = "k1"
  current_key = "file://{seal_key}"
}}
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
"""


def eventually(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    """Wait until it is so. A failure to ask counts as not yet."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(AssertionError, OSError, ProviderError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@contextlib.contextmanager
def three_servers(directory: Path) -> Iterator[list[Bao]]:
    """Run three unsealed servers, the leader first, all of them voters, until the end of the block."""
    seal_key = directory / "seal.key"
    seal_key.write_bytes(os.urandom(32))
    ports = [free_port() for _ in range(6)]
    with contextlib.ExitStack() as stack:
        nodes = []
        for number, port in enumerate(ports[:3]):
            own = directory / f"n{number}"
            own.mkdir()
            joins = "\n".join(
                f'  retry_join {{ leader_api_addr = "http://127.0.0.1:{other}" }}'
                for other in ports[:3]
                if other != port
            )
            text = _NODE.format(
                directory=own,
                number=number,
                joins=joins,
                port=port,
                cluster_port=ports[3 + number],
                seal_key=seal_key,
            )
            nodes.append(stack.enter_context(running(own, text, f"http://127.0.0.1:{port}")))
            if number == 0:
                answer = nodes[0].call("POST", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1})
                nodes[0].token = answer["root_token"]
                eventually(lambda: leader_of(nodes) is nodes[0], "a leader")
                # By default a new node votes only after ten seconds.
                nodes[0].write("sys/storage/raft/autopilot/configuration", server_stabilization_time="0s")
        for node in nodes[1:]:
            node.token = nodes[0].token
        eventually(lambda: voters(nodes[0]) == 3, "three voters")
        yield nodes


def leader_of(nodes: list[Bao]) -> Bao | None:
    """Return the server that says it leads."""
    for node in nodes:
        if node.process.poll() is None:
            with contextlib.suppress(AssertionError, OSError):
                if node.call("GET", "sys/leader")["is_self"]:
                    return node
    return None


def voters(node: Bao) -> int:
    """Count the servers that vote."""
    servers = node.call("GET", "sys/storage/raft/configuration")["data"]["config"]["servers"]
    return sum(server["voter"] for server in servers)
