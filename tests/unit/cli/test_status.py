"""`keystead status` and `keystead rotate` as a person and a script see them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from keystead.cli import main
from keystead.cli.tables import span, table
from keystead.host.report import Report
from keystead.server.http import HttpServer, Page
from support.nodes import THEN, document, endpoint, exposition, key
from support.serving import short_directory

OLD, NEW = key("a"), key("b", "decrypt")


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be the time at which the nodes say what they say."""
    monkeypatch.setattr("keystead.operate.nodes.time.time", lambda: THEN + 1)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


class Plugin:
    """An admin socket that says what a test wants."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "admin.sock"
        self.says = json.dumps(document(endpoint(OLD)))
        self.code = 200
        self.server = HttpServer.on_socket(self.path, {"/status": lambda _query: Page(self.code, self.says)})
        self.server.start()

    def say(self, *reports: Report, **changes: Any) -> None:
        self.says = json.dumps(document(*reports, **changes))

    def status(self, *arguments: str) -> Result:
        return run("status", "--admin", f"unix://{self.path}", *arguments)


@pytest.fixture
def plugin(directory: Path) -> Iterator[Plugin]:
    with capture_logs():
        plugin = Plugin(directory)
        yield plugin
        plugin.server.stop()


def test_a_plugin_that_is_well_is_shown_in_tables(plugin: Plugin) -> None:
    plugin.say(endpoint(OLD, key("b", "decrypt", soak_left=600.0), key("safe", role="recovery", since=None)))
    result = plugin.status()
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines() if line]
    assert result.output.startswith("cp-1: keystead 0.1.0, cluster prod, process 7 up 1h6m\n")
    assert lines[3][:5] == ["main", "ok", "50m", "ok", "1"]
    assert lines[5] == ["a", "main", "local", "active", "yes", "50m", "40s", "-", "1", "40s", "-"]
    assert lines[6] == ["b", "main", "local", "decrypt", "yes", "50m", "40s", "10m", "1", "40s", "-"]
    assert lines[7] == ["safe", "main", "local", "active,", "recovery", "-", "-", "-", "-", "1", "40s", "-"]
    assert lines[9][:5] == ["5c5c5c5c5c5c5c5c", "main", "50m", "7", "yes"]
    assert lines[-1] == ["all", "is", "well"]


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (endpoint(OLD, healthz="remote denies key: 403"), "endpoint main is not healthy: remote denies key: 403"),
        (endpoint(OLD, refused="set epoch to 3"), "endpoint main refuses its configuration: set epoch to 3"),
        (endpoint(OLD, overdue="key a: away"), "endpoint main has an old local KEK: key a: away"),
        (endpoint(key("a", error="key a: wrap: sealed")), "endpoint main key a: key a: wrap: sealed"),
        (endpoint(key("a", credential_expiry=THEN + 7200)), "endpoint main key a: its credentials end in 2 h"),
        (endpoint(key("a", credential_expiry=THEN - 1)), "endpoint main key a: its credentials have ended"),
        (
            endpoint(key("a", refused_versions=("2",))),
            "endpoint main key a: refuses its version 2, which records may need: docs/operate/outage.md",
        ),
    ],
)
def test_what_is_wrong_is_a_line_and_exits_1(plugin: Plugin, report: Report, told: str) -> None:
    plugin.say(report)
    result = plugin.status()
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if line.startswith("FAIL  ")] == [f"FAIL  {told}"]
    assert result.output.endswith("1 to look at\n")
    assert plugin.status("-o", "json").exit_code == 1


def test_a_credential_with_much_time_left_and_an_unproven_activation_are_no_faults(plugin: Plugin) -> None:
    plugin.say(endpoint(key("a", credential_expiry=THEN + 30 * 86400), activation_unproven=True))
    result = plugin.status()
    assert result.exit_code == 0
    assert "ends in 30d" in result.output
    assert "note  endpoint main: a key is active that this node never had as decrypt before" in result.output


def test_json_is_what_the_plugin_says(plugin: Plugin) -> None:
    result = plugin.status("-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.output) == json.loads(plugin.says)


def test_what_a_plugin_says_cannot_move_the_cursor(plugin: Plugin) -> None:
    plugin.say(endpoint(key("a", error="x\x1b[2J\ny")), node="cp\x1b[1m")
    output = plugin.status().output
    assert "\x1b" not in output
    assert "x\\x1b[2J\\ny" in output


@pytest.mark.parametrize(
    ("code", "says", "told"),
    [
        (404, "there is /", "answered 404: this is not the admin socket of a plugin"),
        (200, "<html>", "not JSON"),
        (200, "[]", "not a status"),
        (200, '{"kind": "Status", "apiVersion": "status.keystead.dev/v2"}', "has apiVersion 'status.keystead.dev/v2'"),
    ],
)
def test_an_answer_that_is_no_status_exits_3(plugin: Plugin, code: int, says: str, told: str) -> None:
    plugin.code, plugin.says = code, says
    result = plugin.status()
    assert result.exit_code == 3
    assert told in result.stderr
    assert result.stdout == ""


def test_without_a_plugin_it_exits_3_and_says_what_to_try(directory: Path) -> None:
    result = run("status", "--admin", f"unix://{directory}/none.sock")
    assert result.exit_code == 3
    assert "none.sock does not exist" in result.stderr
    assert "--admin" in result.stderr


@pytest.mark.parametrize("admin", ["/run/admin.sock", "unix://run/admin.sock", "unix:///@name", ""])
def test_a_socket_that_cannot_be_is_a_usage_error(admin: str) -> None:
    assert run("status", "--admin", admin).exit_code == 2


def test_the_socket_comes_from_a_configuration_even_if_that_is_broken_elsewhere(plugin: Plugin, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for text in (
        f"endpoints: [{{socket: 'unix://{plugin.path.parent}/kms.sock', nonsense: 1}}]\n",
        f"observability: {{admin: 'unix://{plugin.path}'}}\n",
    ):
        file.write_text(text)
        assert run("status", "--config", file).exit_code == 0
        assert run("status", KEYSTEAD_CONFIG=str(file)).exit_code == 0
    for text in ("{", "endpoints: 3\n", "observability: {admin: ''}\n", "endpoints: [{socket: 7}]\n"):
        file.write_text(text)
        result = run("status", "--config", file)
        assert result.exit_code == 3
        assert "--admin" in result.stderr


def saved(directory: Path, **nodes: tuple[Report, ...]) -> list[Path]:
    files = []
    for name, reports in nodes.items():
        files.append(directory / f"{name}.json")
        files[-1].write_text(json.dumps(document(*reports, node=name)))
    return files


def test_nodes_that_agree_are_said_to_in_the_last_line(tmp_path: Path) -> None:
    files = saved(tmp_path, cp1=(endpoint(OLD, NEW),), cp2=(endpoint(OLD, NEW),), cp3=(endpoint(OLD, NEW),))
    result = run("status", "--from", *files)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "all 3 nodes agree"
    assert "main/b  decrypt, proven  decrypt, proven  decrypt, proven" in result.output
    assert "note    main/b is proven on every node and may become active" in result.output
    assert run("status", "--from", files[0], "--from", files[1]).output.endswith("all 2 nodes agree\n")


def test_nodes_that_differ_exit_1_and_say_what_to_do(tmp_path: Path) -> None:
    ahead = endpoint(key("b"), key("a", "decrypt"), epoch=2)
    files = saved(tmp_path, cp1=(ahead,), cp2=(endpoint(OLD),))
    result = run("status", "--from", *files)
    assert result.exit_code == 1
    assert "DANGER  main/b: cp2 cannot read what cp1 writes: it has no such key" in result.output
    assert "        do: add it there with stage decrypt, now: cp2" in result.output
    assert "MISSING" in result.output
    assert result.output.splitlines()[-1].startswith("the nodes do not agree: ")
    answer = json.loads(run("status", "-o", "json", "--from", *files).output)
    assert (answer["agree"], answer["differences"][0]["danger"]) == (False, True)
    assert [node["name"] for node in answer["nodes"]] == ["cp1", "cp2"]


def test_a_node_that_cannot_be_read_exits_3_if_the_others_agree(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, cp1=(endpoint(OLD),))
    result = run("status", "--from", file, tmp_path / "cp2.json")
    assert result.exit_code == 3
    assert "cp2.json: No such file or directory" in result.output
    assert result.output.splitlines()[-1] == "could not find out whether the nodes agree"


def test_one_node_is_not_called_a_fleet(tmp_path: Path) -> None:
    (file,) = saved(tmp_path, cp1=(endpoint(OLD),))
    result = run("status", "--from", file)
    assert result.exit_code == 0
    assert "one node" in result.output.splitlines()[-1]


def test_metrics_and_an_admin_socket_are_sources_too(plugin: Plugin, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition(endpoint(OLD)).encode()
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert run("status", "--from", f"{url}/metrics", f"unix://{plugin.path}").exit_code == 0
        result = run("status", "--from", f"{url}/", f"unix://{plugin.path}")
        assert result.exit_code == 3
        assert "404" in result.output
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert run("status", "--from", f"{url}/metrics", f"unix://{plugin.path}").exit_code == 3


def test_forms_that_do_not_go_together_are_usage_errors(tmp_path: Path) -> None:
    assert run("status", "a.json").exit_code == 2
    assert run("status", "--admin", "unix:///run/a", "--from", "a.json").exit_code == 2
    assert run("rotate", "verify").exit_code == 2


def test_verify_says_whether_a_rotation_is_complete(tmp_path: Path) -> None:
    done = endpoint(key("b"), key("a", "decrypt"), epoch=2)
    files = saved(tmp_path, cp1=(done,), cp2=(done,))
    result = run("rotate", "verify", "--epoch", 2, "--from", *files)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "the rotation is complete on all 2 nodes"
    assert run("rotate", "verify", "--epoch", 3, "--from", *files).exit_code == 1
    waiting = endpoint(key("b"), key("a", "decrypt"), epoch=2, in_use=1)
    result = run("rotate", "verify", "--from", *saved(tmp_path, cp1=(done,), cp2=(waiting,)))
    assert result.exit_code == 1
    assert "cp2 encrypts under epoch 1 still" in result.output
    assert result.output.splitlines()[-1].startswith("the rotation is not complete: ")
    assert run("rotate", "verify", "--from", tmp_path / "none").exit_code == 3


CONFIG = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
keys:
- {name: a, provider: local, keyFile: /etc/keystead/a.key}
endpoints:
- {name: main, socket: 'unix:///run/k/s', epoch: 2, members: [{key: a, stage: active}]}
"""


def test_a_plan_is_printed_step_by_step(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    result = run("rotate", "plan", "--config", file, "--add", "b", "--drop", "a")
    assert result.exit_code == 0, result.output
    assert [line[0] for line in result.output.splitlines() if line[:1].isdigit()] == list("12345")
    assert "         - {key: b, stage: decrypt}" in result.output
    assert max(map(len, result.output.splitlines())) <= 120
    answer = json.loads(run("rotate", "plan", "--config", file, "-o", "json").output)
    assert answer["endpoint"] == "main"
    assert [step["title"] for step in answer["steps"]] == ["Raise the epoch", "Rewrite what is stored"]
    assert file.read_text() == CONFIG


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--endpoint", "mian"], "did you mean 'main'?"),
        (["--drop", "a"], "no active key would be left"),
        (["--to-version", "a"], "write KEY=VERSION"),
    ],
)
def test_a_plan_that_cannot_be_is_a_usage_error(tmp_path: Path, arguments: list[str], told: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    result = run("rotate", "plan", "--config", file, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_plan_needs_a_valid_configuration_and_a_choice_among_endpoints(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace("epoch: 2", "epoch: 0"))
    result = run("rotate", "plan", "--config", file)
    assert result.exit_code == 2
    assert "config.yaml:6:" in result.stderr
    second = CONFIG.splitlines()[-1].replace("main", "second").replace("/s'", "/t'")
    file.write_text(CONFIG + second + "\n")
    assert "choose one with --endpoint: main, second" in run("rotate", "plan", "--config", file).stderr
    assert run("rotate", "plan", "--config", file, "--endpoint", "second").exit_code == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"), (0, "0s"), (45.9, "45s"), (60, "1m"), (723, "12m3s"), (3600, "1h"), (11523, "3h12m"),
        (86400, "1d"), (86459, "1d"), (450000, "5d5h"), (400 * 86400, "400d"),
    ],
)  # fmt: skip
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_table_is_as_wide_as_it_must_be() -> None:
    assert table(("A", "LONG"), [("x", ""), ("yyy", "z")]) == ["A    LONG", "x    -", "yyy  z"]
