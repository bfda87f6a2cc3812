"""A configuration as a whole: what it becomes, and what is said of one that cannot be used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError, model_validator

from keystead import errors
from keystead.config import ConfigInvalid, Configuration, load, load_text, single
from keystead.config.translate import MOST
from keystead.provider import Provider, ProviderConfig

Accept = Callable[[str], Configuration]
Refuse = Callable[[str], list[str]]
Lookup = Callable[[str], type[Provider[Any]]]

FULL = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
cluster: prod-eu-1
acceptClusters: [prod-eu-0]
stateDir: /var/lib/keystead
keys:
- name: acme-prod
  provider: acmekms
  address: https://acme.example
  auth: {method: token, tokenFile: /etc/keystead/token}
- {name: lab, provider: local, keyFile: /etc/keystead/lab.key}
endpoints:
- name: main
  socket: unix:///run/keystead/kms.sock
  socketMode: "0660"
  socketGroup: 65532
  kmsVersions: [v2, v1beta1]
  statusVersion: v2beta1
  epoch: 4294967295
  members:
  - {key: acme-prod, stage: active}
  - {key: lab, stage: decrypt}
  localKEK: {maxAge: 168h}
- name: other
  socket: unix:///@keystead
  epoch: 1
  members: [{key: lab, stage: active}]
health: {grace: 15m, probeInterval: 30s}
unwrapTimeout: 20s
observability:
  http: {address: ""}
  logging: {format: json, verbosity: 4}
"""


def test_defaults_fill_the_smallest_configuration(accept: Accept, minimal: str) -> None:
    config = accept(minimal)
    endpoint = config.endpoints[0]
    assert (config.cluster, config.accept_clusters, config.state_dir) == ("", (), None)
    assert (config.unwrap_timeout, config.health.grace, config.health.probe_interval) == (10.0, 3600.0, 60.0)
    assert config.observability.http.address == "127.0.0.1:9853"
    assert (config.observability.logging.format, config.observability.logging.verbosity) == ("auto", 2)
    assert (endpoint.socket_mode, endpoint.socket_group) == (0o600, None)
    assert (endpoint.kms_versions, endpoint.status_version) == (("v2",), "v2")
    assert endpoint.local_kek.max_age == 720 * 3600
    assert [(member.key, member.stage) for member in endpoint.members] == [("lab", "active")]


def test_every_field_arrives(accept: Accept) -> None:
    config = accept(FULL)
    assert (config.cluster, config.accept_clusters) == ("prod-eu-1", ("prod-eu-0",))
    assert config.state_dir == Path("/var/lib/keystead")
    acme, lab = config.keys
    assert (acme.name, acme.provider, lab.name, lab.provider) == ("acme-prod", "acmekms", "lab", "local")
    assert acme.model_dump()["auth"] == {"method": "token", "tokenFile": Path("/etc/keystead/token")}
    main, other = config.endpoints
    assert (main.name, main.socket.path, main.socket_mode) == ("main", Path("/run/keystead/kms.sock"), 0o660)
    assert (main.socket_group, main.kms_versions, main.status_version) == (65532, ("v2", "v1beta1"), "v2beta1")
    assert (main.epoch, main.local_kek.max_age) == (2**32 - 1, 168 * 3600)
    assert [(member.key, member.stage) for member in main.members] == [("acme-prod", "active"), ("lab", "decrypt")]
    assert (other.socket.path, other.socket.abstract) == (None, "keystead")
    assert (config.health.grace, config.health.probe_interval, config.unwrap_timeout) == (900.0, 30.0, 20.0)
    assert config.observability.http.address == ""
    assert (config.observability.logging.format, config.observability.logging.verbosity) == ("json", 4)


def test_a_configuration_cannot_be_changed(accept: Accept, minimal: str) -> None:
    config = accept(minimal)
    for model, field in ((config, "cluster"), (config.endpoints[0], "epoch"), (config.keys[0], "name")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, field, "x")


def test_the_digest_is_that_of_the_text(accept: Accept, minimal: str) -> None:
    assert accept(minimal).digest == hashlib.sha256(minimal.encode()).hexdigest()
    assert accept(minimal + "# a comment\n").digest != accept(minimal).digest


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(refuse: Refuse) -> None:
    text = """\
apiVersion: config.keystead.dev/v1alpha2
kind: KeysteadConfig
clustr: prod
keys:
- {name: lab, provider: local, keyfile: /x}
- {name: Acme, provider: acmekmz}
endpoints:
- name: main
  socket: unix://run/kms.sock
  epoch: 0
  members:
  - {key: lap, stage: activ}
health: {grace: 1 day}
"""
    assert refuse(text) == [
        "1:1: cluster: should be set: it is bound into every record, so that nobody can move one here from another "
        "cluster with the same remote key; only a configuration whose keys are all local may go without",
        "1:13: apiVersion: should be 'config.keystead.dev/v1alpha1'",
        "2:7: kind: should be 'KeysteadConfiguration'",
        "3:1: clustr: unknown field (did you mean 'cluster'?)",
        "5:3: keys[0].keyFile: required field is missing",
        "5:32: keys[0].keyfile: unknown field (did you mean 'keyFile'?)",
        "6:10: keys[1].name: should be 1 to 63 characters of a-z, 0-9, '.' and '-', with a letter or digit at "
        "both ends",
        "6:26: keys[1].provider: no provider 'acmekmz' is installed",
        "9:11: endpoints[0].socket: kube-apiserver takes the first segment, 'run', for a host name and drops it; "
        "write unix:///run/kms.sock",
        "10:10: endpoints[0].epoch: should be greater than or equal to 1",
        "12:11: endpoints[0].members[0].key: no entry of keys has the name 'lap' (did you mean 'lab'?)",
        "12:23: endpoints[0].members[0].stage: should be 'active' or 'decrypt' (did you mean 'active'?)",
        "13:17: health.grace: should be a duration such as 30s, 15m, 720h or 1h30m; the units are h, m, s and ms",
    ]


def test_the_error_lists_every_problem_and_is_a_configuration_error(minimal: str, lookup: Lookup) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        load_text(minimal.replace("epoch: 1", "epoch: x\n  epoc: 1"), "dir/config.yaml", lookup=lookup)
    assert str(caught.value) == (
        "dir/config.yaml:8:10: endpoints[0].epoch: should be a whole number, without quotes\n"
        "dir/config.yaml:9:3: endpoints[0].epoc: unknown field (did you mean 'epoch'?)"
    )


FAULTS = (Path(__file__).parent / "faults.txt").read_text().split("\n# ")[1:]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.partition("\n")[0].replace(" ", "-"))
def test_one_fault_gives_one_clear_message(fault: str, refuse: Refuse, minimal: str) -> None:
    lines = fault.splitlines()[1:]
    old, new, said = ("".join(f"{line[1:]}\n" for line in lines if line.startswith(mark)) for mark in "-+!")
    assert minimal.count(old) == 1, "the fault has to be made in one place"
    assert "".join(f"{line}\n" for line in refuse(minimal.replace(old, new))) == said


def test_the_faults_are_all_there() -> None:
    assert len(FAULTS) == 69


def test_two_endpoints_share_neither_name_nor_socket(refuse: Refuse, minimal: str) -> None:
    second = minimal[minimal.index("- name: main") :]
    assert refuse(minimal + second) == [
        "11:9: endpoints[1].name: 'main' is given twice",
        "12:11: endpoints[1].socket: 'unix:///run/keystead/kms.sock' is given twice",
    ]


def test_an_endpoint_has_at_most_eight_members(accept: Accept, refuse: Refuse, minimal: str) -> None:
    def with_members(count: int) -> str:
        keys = "\n".join(f"- {{name: k{n}, provider: local, keyFile: /k}}" for n in range(count))
        members = ", ".join(f"{{key: k{n}, stage: active}}" for n in range(count))
        text = re.sub(r"- \{name: lab.*", keys, minimal)
        return re.sub(r"members:\n.*", f"members: [{members}]", text)

    assert len(accept(with_members(8)).endpoints[0].members) == 8
    assert refuse(with_members(9)) == ["17:12: endpoints[0].members: should have at most 8 items"]


def test_the_mode_of_an_abstract_socket_is_refused_since_it_would_have_no_effect(refuse: Refuse, minimal: str) -> None:
    text = minimal.replace("unix:///run/keystead/kms.sock", 'unix:///@k\n  socketMode: "0600"\n  socketGroup: 0')
    said = "has no effect on an abstract socket, which has no permissions; take it away"
    assert refuse(text) == [f"8:15: endpoints[0].socketMode: {said}", f"9:16: endpoints[0].socketGroup: {said}"]


def test_a_configuration_that_is_a_list_or_a_text_is_refused(refuse: Refuse) -> None:
    assert refuse("- a\n") == ["1:1: should be a mapping of fields"]
    assert refuse("hello\n") == ["1:1: should be a mapping of fields"]


def test_the_cluster_may_be_empty_only_without_remote_keys(accept: Accept, refuse: Refuse, minimal: str) -> None:
    assert accept(minimal).cluster == ""
    remote = "- {name: r, provider: acmekms, address: a, auth: {method: token, tokenFile: /t}}\nendpoints:"
    text = minimal.replace("endpoints:", remote)
    assert [line[: line.index(" it is")] for line in refuse(text)] == ["1:1: cluster: should be set:"]
    explicit = text.replace("kind:", 'cluster: ""\nkind:')
    assert [line[: line.index(" it is")] for line in refuse(explicit)] == ["2:10: cluster: should be set:"]
    assert accept(text.replace("kind:", "cluster: c\nkind:")).cluster == "c"


def test_faults_inside_a_nested_part_of_a_provider_are_placed(refuse: Refuse) -> None:
    assert refuse(FULL.replace("tokenFile: /etc", "tokenfile: /etc")) == [
        "10:9: keys[0].auth.tokenFile: required field is missing",
        "10:25: keys[0].auth.tokenfile: unknown field (did you mean 'tokenFile'?)",
    ]
    (said,) = refuse(FULL.replace("method: token", "method: tokn"))
    assert said.startswith("10:9: keys[0].auth: tag 'tokn' found using 'method' does not match any of the expected")


def test_a_refused_value_of_a_provider_is_not_repeated(refuse: Refuse, minimal: str) -> None:
    secret = "hunter2hunter2"
    for text in (
        minimal.replace("keyFile: /etc/keystead/lab.key", f"keyFile: [{secret}]"),
        minimal.replace("keyFile: /etc/keystead/lab.key", f"keyFile: /x, token: {secret}"),
        minimal.replace("name: lab,", f"name: {secret.upper()},"),
        FULL.replace("address: https://acme.example", f"address: x\n  retries: {secret}"),
        FULL.replace("address: https://acme.example", f"address: [{secret}]"),
    ):
        assert secret not in "\n".join(refuse(text)).lower()


def test_a_validator_of_a_vendor_that_fails_is_reported_and_does_not_end_the_process(
    minimal: str, lookup: Lookup
) -> None:
    class Careless(ProviderConfig):
        @model_validator(mode="before")
        @classmethod
        def _fail(cls, value: Any) -> Any:
            return value["missing"]

    class CarelessProvider(lookup("local")):  # type: ignore[misc]  # a class of the fixture
        config_type: ClassVar[type[ProviderConfig]] = Careless

    with pytest.raises(ConfigInvalid) as caught:
        load_text(minimal, "f", lookup=lambda _name: CarelessProvider)
    assert str(caught.value) == "f:4:3: keys[0]: the check of provider local failed: KeyError: 'missing'"


def test_a_flood_of_problems_is_cut(refuse: Refuse, minimal: str) -> None:
    flood = "".join(f"x{number}: 1\n" for number in range(5 * MOST))
    assert len(refuse(minimal + flood)) == MOST


def test_a_file_is_loaded(tmp_path: Path, minimal: str, lookup: Lookup) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + minimal.replace("\n", "\r\n").encode())
    config = load(path, lookup=lookup)
    assert config.endpoints[0].name == "main"
    assert config.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_cannot_be_read_is_one_clear_problem(tmp_path: Path, lookup: Lookup) -> None:
    def said(path: Path) -> str:
        with pytest.raises(ConfigInvalid) as caught:
            load(path, lookup=lookup)
        return str(caught.value).replace(str(tmp_path), "DIR")

    assert said(tmp_path / "none.yaml") == "DIR/none.yaml: cannot be read: No such file or directory"
    assert said(tmp_path) == "DIR: cannot be read: Is a directory"
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (2**20 + 1))
    assert said(big) == "DIR/big.yaml: is larger than 1048576 bytes"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    assert said(latin) == "DIR/latin.yaml:2:4: is not UTF-8"
    empty = tmp_path / "empty.yaml"
    empty.write_bytes(b"")
    assert said(empty) == "DIR/empty.yaml: is empty; it needs at least keys and endpoints"


def test_a_configuration_can_be_made_without_a_file(lookup: Lookup) -> None:
    auth = {"method": "cert", "certFile": "/c"}
    config = single(
        socket="unix:///run/keystead/kms.sock",
        key={"name": "main", "provider": "acmekms", "address": "a", "retries": "5", "auth": auth},
        cluster="prod",
        epoch=3,
        stateDir="/var/lib/keystead",
        kmsVersions=["v2", "v1beta1"],
        socketMode="0660",
        unwrapTimeout="20s",
        http="",
        lookup=lookup,
    )
    endpoint = config.endpoints[0]
    assert (config.cluster, config.state_dir, config.unwrap_timeout) == ("prod", Path("/var/lib/keystead"), 20.0)
    assert (endpoint.name, endpoint.epoch, endpoint.kms_versions, endpoint.socket_mode) == (
        "main",
        3,
        ("v2", "v1beta1"),
        0o660,
    )
    assert [(member.key, member.stage) for member in endpoint.members] == [("main", "active")]
    assert config.keys[0].model_dump()["retries"] == 5
    assert config.observability.http.address == ""


def test_without_a_file_options_have_the_same_defaults(accept: Accept, minimal: str, lookup: Lookup) -> None:
    made = single(
        socket="unix:///run/keystead/kms.sock",
        key={"provider": "local", "keyFile": "/etc/keystead/lab.key"},
        stateDir=None,
        lookup=lookup,
    )
    read = accept(minimal)
    assert made.keys[0].name == "local"
    assert made.endpoints[0].model_dump(exclude={"members"}) == read.endpoints[0].model_dump(exclude={"members"})
    assert made.observability == read.observability
    assert made.health == read.health
    assert len(made.digest) == 64


def test_without_a_file_problems_have_paths_and_no_lines(lookup: Lookup) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        single(socket="/run/k", key={"provider": "local", "keyfile": "/k"}, epoch=0, bogus=1, lookup=lookup)
    assert sorted(map(str, caught.value.problems)) == [
        "bogus: unknown field",
        "endpoints[0].epoch: should be greater than or equal to 1",
        "endpoints[0].socket: is a path; write unix:///run/k",
        "keys[0].keyFile: required field is missing",
        "keys[0].keyfile: unknown field (did you mean 'keyFile'?)",
    ]
