"""Which keys may be online members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from keystead.config import ConfigInvalid, Configuration, lint_text, load_text
from keystead.errors import ConfigError
from keystead.provider import Capabilities, Provider
from unit.config.conftest import CAPABILITIES, Local, Toy

TEXT = """\
apiVersion: config.keystead.dev/v1alpha1
kind: KeysteadConfiguration
cluster: prod
stateDir: /var/lib/keystead
keys:
- {name: lab, provider: local, keyFile: /etc/keystead/lab.key}
- {name: safe, provider: public}
endpoints:
- name: main
  socket: unix:///run/keystead/kms.sock
  epoch: 1
  members:
  - {key: lab, stage: active}
  - {key: safe, stage: active, role: recovery}
"""


class Public(Toy):
    """Whoever has the public half can wrap."""

    capabilities: ClassVar[Capabilities] = replace(CAPABILITIES, authenticated_wrap=False)


def find(name: str) -> type[Provider[Any]]:
    try:
        return {"local": Local, "public": Public}[name]
    except KeyError:
        raise ConfigError(f"no provider {name!r} is installed") from None


def load(text: str) -> Configuration:
    return load_text(text, "config.yaml", lookup=find)


def test_a_key_that_anybody_can_wrap_with_may_be_for_recovery() -> None:
    (endpoint,) = load(TEXT).endpoints
    assert [(member.key, member.role) for member in endpoint.members] == [("lab", "online"), ("safe", "recovery")]


@pytest.mark.parametrize("stage", ["active", "decrypt"])
def test_a_key_that_anybody_can_wrap_with_is_refused_as_an_online_one_with_the_reason(stage: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(TEXT.replace("stage: active, role: recovery", f"stage: {stage}"))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "config.yaml:14:5: endpoints[0].members[1]: should have the role recovery: public wraps with a public key, so "
        "whoever can write to etcd could plant a local KEK that he knows, and this plugin would accept it"
    )


def test_a_recovery_key_is_not_among_those_that_weaken_the_others() -> None:
    assert not [problem for problem in lint_text(TEXT, "x", lookup=find) if "as safe as the weakest" in str(problem)]
