"""Three real servers with replicated storage: replicas that lag, a leader that is killed, redirects that follow."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keystead.provider import Unavailable
from providers.vault.bao import Bao, openbao_only
from providers.vault.given import CONTEXT, KEK, Make, soon
from providers.vault.raft import eventually, three_servers
from support.patience import LATE


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Bao]]:
    with three_servers(tmp_path) as nodes:
        yield nodes


@openbao_only  # three servers that unseal by themselves
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
            assert time.monotonic() - began < 1 + LATE
    assert calls > 20
    assert logged_in_after is not None
    assert late.unwrap(wrapped.blob, CONTEXT, "21", soon()) == KEK


def approle(bao: Bao, directory: Path) -> dict[str, str]:
    bao.mount("auth/approle", "approle")
    bao.write("auth/approle/role/r", token_policies=["k"])
    (directory / "role").write_text(bao.call("GET", "auth/approle/role/r/role-id")["data"]["role_id"])
    (directory / "secret").write_text(bao.write("auth/approle/role/r/secret-id")["data"]["secret_id"])
    return {"method": "approle", "roleIDFile": str(directory / "role"), "secretIDFile": str(directory / "secret")}
