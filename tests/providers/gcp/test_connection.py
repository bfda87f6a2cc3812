"""Outages, slow lines, proxies and TLS, on real sockets, and the environment of the plugin's own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keystead.provider import ConfigError, ProviderError, Unavailable
from providers.gcp.fake import KEY, FakeKms, Fault, over_grpc, over_rest
from providers.gcp.given import CONTEXT, KEK, Make, Served, soon
from providers.gcp.metadata import FakeMetadata, black_hole, refusing
from providers.vault.certificates import Authority
from support.patience import AT_ONCE, LATE
from support.relays import relay

OUTAGE, BACK = 6.0, 2.5
"""Seconds. After so long an outage the SDK's own channel waits for more than three until it tries again."""
OVER = {"grpc": over_grpc, "rest": over_rest}


@pytest.mark.parametrize("transport", OVER)
def test_after_an_outage_of_seconds_a_call_succeeds_within_seconds(
    make: Make, ca: Authority, certificate: tuple[Path, Path], transport: str
) -> None:
    kms = FakeKms()
    kms.create()
    with OVER[transport](kms, certificate) as port:
        provider = make(Served(kms, f"127.0.0.1:{port}", transport, ca.file))
        provider.open(soon())
        blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    ends, failures = time.monotonic() + OUTAGE, 0
    while time.monotonic() < ends:
        start = time.monotonic()
        with pytest.raises(Unavailable):
            provider.unwrap(blob, CONTEXT, "1", start + 1.0)
        assert time.monotonic() - start < 1.0 + LATE
        failures += 1
        time.sleep(0.1)
    assert failures > 3
    with OVER[transport](kms, certificate, port):
        back = time.monotonic()
        while True:
            try:
                assert provider.unwrap(blob, CONTEXT, "1", time.monotonic() + 1.0) == KEK
                break
            except Unavailable:
                time.sleep(0.05)
                assert time.monotonic() - back < BACK
        assert time.monotonic() - back < BACK


def test_a_service_that_is_refused_fails_at_once_and_says_so(make: Make, served: Served) -> None:
    provider = make(served, endpoint=refusing())
    start = time.monotonic()
    with pytest.raises(Unavailable, match="Connection refused"):
        provider.open(start + 10)
    assert time.monotonic() - start < AT_ONCE


def test_a_service_that_is_a_black_hole_costs_the_deadline_and_no_more(make: Make, served: Served) -> None:
    with black_hole() as address:
        provider = make(served, endpoint=address)
        start = time.monotonic()
        with pytest.raises(Unavailable):
            provider.open(start + 0.6)
        assert time.monotonic() - start < 0.6 + LATE


def test_a_line_with_a_long_delay_is_not_taken_for_a_dead_one(make: Make, served: Served) -> None:
    with relay(served.endpoint, delay=0.25) as line:
        provider = make(served, endpoint=line.address)
        start = time.monotonic()
        assert provider.open(start + 4) == KEY
        assert time.monotonic() - start > 1.0, "the handshakes alone take four times the delay"


def test_a_line_that_goes_dead_costs_each_call_its_deadline(make: Make, served: Served) -> None:
    with relay(served.endpoint) as line:
        provider = make(served, endpoint=line.address)
        provider.open(soon())
        line.dead = True
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(Unavailable, match="no complete answer within"):
                provider.current_version(start + 0.5)
            assert time.monotonic() - start < 0.5 + LATE


def test_a_proxy_is_asked_for_a_tunnel_and_the_metadata_server_is_not_asked_through_it(
    make: Make, served: Served, metadata: FakeMetadata
) -> None:
    with relay() as proxy:
        provider = make(served, proxy=f"http://{proxy.address}")
        provider.open(soon())
        blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
        assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK
        assert [line.split()[:2] for line in proxy.tunnels] == [["CONNECT", served.endpoint]]
    assert len(metadata.asked) == 1


def test_proxies_and_credentials_of_the_environment_are_not_used(
    make: Make, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{refusing()}")
    assert make(served).open(soon()) == KEY


def test_a_certificate_of_another_authority_is_refused(make: Make, served: Served, tmp_path: Path) -> None:
    provider = make(served, caFile=str(Authority.create(tmp_path / "other.crt").file))
    with pytest.raises(Unavailable, match=r"(CERTIFICATE_VERIFY_FAILED|TLS: ).*check caFile, endpoint and the server"):
        provider.open(soon(2))
    assert served.kms.calls == []


def test_a_file_of_authorities_that_is_not_there_or_is_none_is_named(
    make: Make, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "none.crt").write_text("none")
    for name in ("absent.crt", "none.crt"):
        with pytest.raises(ConfigError, match=f"caFile {tmp_path / name} is not usable: "):
            make(served, caFile=str(tmp_path / name)).open(soon(2))


def test_closing_ends_a_call_that_waits_and_later_calls_say_that_nothing_is_open(make: Make, served: Served) -> None:
    provider = make(served)
    provider.open(soon())
    served.kms.faults.append(Fault("GetCryptoKey", hang=True))
    errors: list[BaseException] = []

    def call() -> None:
        try:
            provider.current_version(soon(3))
        except ProviderError as exc:
            errors.append(exc)

    thread = threading.Thread(target=call)
    thread.start()
    while served.kms.count("GetCryptoKey") < 2:
        time.sleep(0.01)
    provider.close()
    provider.close()
    thread.join(4)
    assert [type(error) for error in errors] == [Unavailable]
    with pytest.raises(Unavailable, match="not open"):
        provider.unwrap(b"x", CONTEXT, "1", soon())
    assert provider.open(soon()) == KEY


def test_eight_threads_share_one_client(make: Make, served: Served, metadata: FakeMetadata) -> None:
    provider = make(served)
    provider.open(soon())
    done: list[bytes] = []

    def work() -> None:
        for _ in range(10):
            blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
            done.append(bytes(provider.unwrap(blob, CONTEXT, "1", soon())))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [KEK] * 80
    assert len(metadata.asked) == 1


SCRIPT = """
import json, sys, time
from keystead.server.tuning import prepare_environment
prepare_environment()
import grpc
from concurrent.futures import ThreadPoolExecutor
from keystead.providers.gcp_kms import GcpKmsProvider
from keystead.provider import WrapContext
server = grpc.server(ThreadPoolExecutor(2))  # as the plugin has one
server.add_insecure_port("127.0.0.1:0")
server.start()
provider = GcpKmsProvider(GcpKmsProvider.config_type.model_validate(json.loads(sys.argv[1])))
context, soon = WrapContext(bytes(32), "lab"), time.monotonic() + 20
provider.open(soon)
blob = provider.wrap(bytes(32), context, "1", soon).blob
assert provider.unwrap(blob, context, "1", soon) == bytes(32)
provider.close()
server.stop(0).wait(5)
print("done")
"""


def test_the_client_works_in_the_environment_of_the_plugin_s_own_process(
    served: Served, metadata: FakeMetadata
) -> None:
    config = {"name": "k", "provider": "gcp-kms", "keyName": KEY, "endpoint": served.endpoint}
    config |= {"transport": served.transport, "caFile": str(served.ca_file)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(config)],
        env={**environment, "GCE_METADATA_HOST": metadata.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
