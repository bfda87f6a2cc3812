"""/livez, /readyz and /metrics of a running plugin."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import grpc

from support.http import free_port, get
from support.process import PATIENCE, Files
from support.serving import V2_SERVICE


def with_http(directory: Path, port: int, provider: str = "local") -> Files:
    files = Files(directory, provider)
    files.options["observability"] = {"http": {"address": f"127.0.0.1:{port}"}, "logging": {"format": "json"}}
    files.write()
    return files


def test_a_good_plugin_is_live_ready_and_counted(directory: Path) -> None:
    port = free_port()
    files = with_http(directory, port)
    with files.run() as process:
        process.until_ok()
        process.until_event("server.started")
        sealed = process.client.seal(b"seed")
        process.client.decrypt(sealed)
        assert process.client.refusal(f"{V2_SERVICE}/Encrypt", b"")[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert get(port, "/livez") == (200, "ok\n")
        assert get(port, "/readyz") == (200, "ok\n")
        assert get(port, "/readyz?verbose") == (200, "[+]endpoint main ok: ok\nready\n")
        code, metrics = get(port, "/metrics")
        assert code == 200
        lines = metrics.splitlines()
        service, bad = 'grpc_service="v2.KeyManagementService",grpc_type="unary"', "INVALID_ARGUMENT"
        for line in (
            f'grpc_server_handled_total{{endpoint="main",grpc_code="OK",grpc_method="Encrypt",{service}}} 1.0',
            f'grpc_server_handled_total{{endpoint="main",grpc_code="OK",grpc_method="Decrypt",{service}}} 1.0',
            f'grpc_server_handled_total{{endpoint="main",grpc_code="{bad}",grpc_method="Encrypt",{service}}} 1.0',
            'keystead_keks_minted_total{endpoint="main"} 1.0',
            'keystead_kms_healthz{endpoint="main"} 1.0',
            'keystead_state_persist_failed{endpoint="main"} 0.0',
        ):
            assert line in lines
        for private in (sealed.key_id, str(files.key_file), str(files.socket)):
            assert private not in metrics


def test_what_no_key_opens_and_when_status_was_asked_for_are_told(directory: Path) -> None:
    port = free_port()
    files = with_http(directory, port)
    with files.run() as process:
        process.until_event("server.started")
        assert 'keystead_last_status_timestamp_seconds{endpoint="main"} 0.0' in get(port, "/metrics")[1]
        process.until_ok()
        assert process.client.refusal(f"{V2_SERVICE}/Decrypt", b"")[0] is grpc.StatusCode.INVALID_ARGUMENT
        samples = dict(line.rsplit(" ", 1) for line in get(port, "/metrics")[1].splitlines() if line[0] != "#")
        unknown = 'keystead_unknown_key_requests_total{endpoint="main",reason="not_keystead"}'
        assert float(samples[unknown]) == 1
        asked = float(samples['keystead_last_status_timestamp_seconds{endpoint="main"}'])
        assert abs(time.time() - asked) < PATIENCE


def test_a_plugin_without_its_key_is_live_and_not_ready_and_says_why(directory: Path) -> None:
    port = free_port()
    files = with_http(directory, port)
    files.key_file.unlink()
    with files.run() as process:
        process.until_event("server.started")
        assert get(port, "/livez") == (200, "ok\n")
        text = ""
        while "does not exist" not in text:
            code, text = get(port, "/readyz")
            assert code == 503
        assert text.startswith("[-]endpoint main init: starting: key lab: open: ")
        assert text.endswith("not ready\n")


def test_a_port_that_is_taken_costs_metrics_and_nothing_else(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        files = with_http(directory, taken.getsockname()[1])
        with files.run() as process:
            process.until_ok()
            assert "Address already in use" in process.until_event("http.not_bound")["error"]
            assert process.client.decrypt(process.client.seal(b"seed")) == b"seed"
            assert process.stop() == 0


def test_every_log_line_is_json(directory: Path) -> None:
    files = with_http(directory, free_port())
    with files.run() as process:
        process.until_ok()
        process.until_event("server.started")
        assert process.stop() == 0
    lines = [json.loads(line) for line in process.log.splitlines()]
    events = [line["event"] for line in lines]
    assert events[-2:] == ["server.draining", "server.stopped"]
    assert {"endpoint.listening", "kek.minted", "server.started", "key.notice"} <= set(events)
    assert all({"ts", "level"} <= line.keys() for line in lines)
