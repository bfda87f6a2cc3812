"""Three real servers with replicated storage: replicas that lag, a leader that is killed, redirects that follow."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keystead.provider import ProviderError, Unavailable
from providers.vault.bao import Bao, free_port, running
from providers.vault.given import CONTEXT, KEK, Make, soon

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
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(AssertionError, OSError, ProviderError):
            if condition():
                return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Bao]]:
    """Three unsealed servers, the leader first, all of them voters."""
    seal_key = tmp_path / "seal.key"
    seal_key.write_bytes(os.urandom(32))
    ports = [free_port() for _ in range(6)]
    with contextlib.ExitStack() as stack:
        nodes = []
        for number, port in enumerate(ports[:3]):
            directory = tmp_path / f"n{number}"
            directory.mkdir()
            joins = "\n".join(
                f'  retry_join {{ leader_api_addr = "http://127.0.0.1:{other}" }}'
                for other in ports[:3]
                if other != port
            )
            text = _NODE.format(
                directory=directory,
                number=number,
                joins=joins,
                port=port,
                cluster_port=ports[3 + number],
                seal_key=seal_key,
            )
            nodes.append(stack.enter_context(running(directory, text, f"http://127.0.0.1:{port}")))
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
    for node in nodes:
        if node.process.poll() is None:
            with contextlib.suppress(AssertionError, OSError):
                if node.call("GET", "sys/leader")["is_self"]:
                    return node
    return None


def voters(node: Bao) -> int:
    servers = node.call("GET", "sys/storage/raft/configuration")["data"]["config"]["servers"]
    return sum(server["voter"] for server in servers)


@pytest.mark.slow
def test_calls_go_on_through_rotations_and_the_death_of_the_leader_and_a_login_soon_after(
    cluster: list[Bao], make: Make, tmp_path: Path
) -> None:
    leader, *standbys = cluster
    key, auth = leader.key("k"), approle(leader, tmp_path)
    aad = base64.b64encode(CONTEXT.aad).decode()
    provider = make(None, key, token=leader.make_token(key), addresses=[node.address for node in reversed(cluster)])
    eventually(lambda: bool(provider.open(soon())), "the key and the token on a standby")

    # A standby may not have seen a rotation yet; another address then answers.
    for version in range(2, 22):
        leader.write(f"transit/keys/{key}/rotate")
        ciphertext = leader.encrypt(key, KEK, associated_data=aad)
        assert provider.unwrap(ciphertext.encode(), CONTEXT, str(version), soon()) == KEK

    def has_seen_all(node: Bao) -> bool:
        return bool(node.call("GET", f"transit/keys/{key}")["data"]["latest_version"] == 21)

    eventually(lambda: all(map(has_seen_all, standbys)), "the last rotation on all nodes")
    wrapped = provider.wrap(KEK, CONTEXT, "21", soon())
    leader.process.kill()
    leader.process.wait(5)
    late = make(None, key, auth=auth, addresses=[node.address for node in standbys])
    logged_in_after = None
    start, calls = time.monotonic(), 0
    while time.monotonic() < start + 8:
        assert provider.unwrap(wrapped.blob, CONTEXT, "21", soon(5)) == KEK
        again = provider.wrap(KEK, CONTEXT, "21", soon(5))
        assert provider.unwrap(again.blob, CONTEXT, "21", soon(5)) == KEK
        calls += 1
        if logged_in_after is None:
            began = time.monotonic()
            # A standby sends a login on to the leader that it knows, which may be the dead one.
            with contextlib.suppress(Unavailable):
                late.open(soon(1))
                logged_in_after = time.monotonic() - start
            assert time.monotonic() - began < 1.3
    assert calls > 20
    assert logged_in_after is not None
    assert late.unwrap(wrapped.blob, CONTEXT, "21", soon()) == KEK


def approle(bao: Bao, directory: Path) -> dict[str, str]:
    bao.mount("auth/approle", "approle")
    bao.write("auth/approle/role/r", token_policies=["k"])
    (directory / "role").write_text(bao.call("GET", "auth/approle/role/r/role-id")["data"]["role_id"])
    (directory / "secret").write_text(bao.write("auth/approle/role/r/secret-id")["data"]["secret_id"])
    return {"method": "approle", "roleIDFile": str(directory / "role"), "secretIDFile": str(directory / "secret")}
