"""The warnings of lint: each for its reason, and none for a configuration that needs no second look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keystead.config import lint_text
from keystead.provider import Provider

Lookup = Callable[[str], type[Provider[Any]]]

CLEAN = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
cluster: prod
stateDir: /var/lib/keystead
keys:
- {name: acme, provider: acmekms, address: a, auth: {method: token, tokenFile: /t}}
endpoints:
- name: main
  socket: unix:///run/keystead/kms.sock
  epoch: 1
  members: [{key: acme, stage: active}]
"""
ANOTHER = "- {name: second, provider: acmekms, address: b, auth: {method: token, tokenFile: /t}}\nendpoints:"
LOCAL = "- {name: lab, provider: local, keyFile: /k}\nendpoints:"
MEMBERS = "members: [{key: acme, stage: active}"


def warnings(text: str, lookup: Lookup) -> list[str]:
    return [str(warning).removeprefix("f:") for warning in lint_text(text, "f", lookup=lookup)]


def test_a_clean_configuration_gives_no_warning(lookup: Lookup) -> None:
    assert warnings(CLEAN, lookup) == []


CASES = [
    ("stateDir: /var/lib/keystead\n", "", "1:1: stateDir: is not set: each start makes a new local KEK"),
    ("endpoints:", ANOTHER, "7:3: keys[1]: second is a member of no endpoint and is not opened"),
    ("/run/keystead", "/tmp", "9:11: endpoints[0].socket: is in a directory where every user may create files"),
    ("/run/keystead", "/var/tmp/x/y", "9:11: endpoints[0].socket: is in a directory where every user may create files"),
    ("/run/keystead/kms.sock", "/@kms", "9:11: endpoints[0].socket: is abstract: every process in this network"),
    (
        "epoch: 1",
        'epoch: 1\n  socketGroup: 0\n  socketMode: "0640"',
        "11:16: endpoints[0].socketGroup: cannot connect with this socketMode",
    ),
    ("epoch: 1", "epoch: 1\n  socketGroup: 0", "11:16: endpoints[0].socketGroup: cannot connect with this socketMode"),
    (
        "epoch: 1",
        "epoch: 1\n  kmsVersions: [v1beta1]",
        "11:16: endpoints[0].kmsVersions: has v1beta1, which Kubernetes",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), CASES)
def test_one_risk_gives_one_warning(old: str, new: str, said: str, lookup: Lookup) -> None:
    assert CLEAN.count(old) == 1
    (warning,) = warnings(CLEAN.replace(old, new), lookup)
    assert warning.startswith(said)


def test_a_local_key_in_use_is_named(lookup: Lookup) -> None:
    text = CLEAN.replace("endpoints:", LOCAL).replace(MEMBERS, MEMBERS + ", {key: lab, stage: decrypt}")
    (warning,) = warnings(text, lookup)
    assert warning.startswith("7:25: keys[1].provider: local keeps lab in a file of this node, which protects nothing")


def test_several_active_members_are_as_safe_as_the_weakest(lookup: Lookup) -> None:
    text = CLEAN.replace("endpoints:", ANOTHER).replace(MEMBERS, MEMBERS + ", {key: second, stage: active}")
    assert warnings(text, lookup) == [
        "12:12: endpoints[0].members: any one of acme, second opens everything that is written: "
        "as safe as the weakest of them"
    ]
    assert warnings(text.replace("key: second, stage: active", "key: second, stage: decrypt"), lookup) == []


def test_a_group_that_may_connect_gives_no_warning(lookup: Lookup) -> None:
    assert warnings(CLEAN.replace("epoch: 1", 'epoch: 1\n  socketGroup: 0\n  socketMode: "0660"'), lookup) == []


def test_what_a_provider_wants_known_is_a_warning(
    lookup: Lookup, providers: dict[str, type[Provider[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers["acmekms"], "notice", "it is closed on Sundays")
    assert warnings(CLEAN, lookup) == ["6:3: keys[0]: it is closed on Sundays"]
    (unused,) = warnings(CLEAN.replace("endpoints:", ANOTHER), lookup)[1:]
    assert "second is a member of no endpoint" in unused


def test_a_provider_that_cannot_say_what_it_wants_known_gives_no_warning(
    lookup: Lookup, providers: dict[str, type[Provider[Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Provider[Any], config: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(providers["acmekms"], "__init__", fail)
    assert warnings(CLEAN, lookup) == []


BOOTSTRAP = {
    "vault-transit": "address: 'https://v', transitKey: k, auth: {method: kubernetes, role: r}",
    "aws-kms": "keyID: 'arn:aws:kms:eu-west-1:111122223333:key/a', "
    "webIdentity: {roleARN: 'arn:aws:iam::111122223333:role/r', tokenFile: /var/run/secrets/token}",
}


@pytest.mark.parametrize("provider", BOOTSTRAP)
def test_credentials_that_need_the_api_server_which_waits_for_the_plugin_are_warned_of(provider: str) -> None:
    text = CLEAN.replace("provider: acmekms, address: a, auth: {method: token, tokenFile: /t}", "PLACE")
    text = text.replace("PLACE", f"provider: {provider}, {BOOTSTRAP[provider]}")
    (warning,) = map(str, lint_text(text, "f"))
    assert warning.startswith("f:6:3: keys[0]: ")
    assert "neither can start" in warning
