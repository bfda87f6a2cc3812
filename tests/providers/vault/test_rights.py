"""The policy that the page of the provider prints, on a real server: it is enough, and it is not more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from providers.vault.bao import Bao
from providers.vault.given import CONTEXT, KEK, Make, soon

PAGE = Path(__file__).parents[3] / "docs/providers/vault-transit.md"
KEY = "k8s"
FORBIDDEN = [
    ("POST", f"transit/keys/{KEY}/rotate"),
    ("POST", f"transit/keys/{KEY}/config"),
    ("DELETE", f"transit/keys/{KEY}"),
    ("POST", f"transit/rewrap/{KEY}"),
    ("POST", f"transit/datakey/plaintext/{KEY}"),
    ("GET", f"transit/export/encryption-key/{KEY}"),
    ("POST", "transit/encrypt/a-typing-error"),
    ("POST", "transit/decrypt/a-typing-error"),
    ("LIST", "transit/keys"),
]


def test_with_the_policy_of_the_page_all_works_and_nothing_else_does(bao: Bao, make: Make) -> None:
    (policy,) = re.findall(r"^```hcl\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    bao.mount("transit", "transit")
    bao.write(f"transit/keys/{KEY}")
    bao.write("sys/policies/acl/of-the-page", policy=policy)
    token = bao.make_token("of-the-page")
    provider = make(bao, KEY, token=token)
    assert provider.open(soon()) == f"transit/{KEY}"
    assert provider.current_version(soon()) == "1"
    wrapped = provider.wrap(KEK, CONTEXT, "1", soon())
    assert provider.unwrap(wrapped.blob, CONTEXT, "1", soon()) == KEK
    provider.keep_alive(soon())
    for method, path in FORBIDDEN:
        with pytest.raises(AssertionError, match=f"^{method} {path}: 403 "):
            bao.call(method, path, {"plaintext": "AAAA"} if method == "POST" else None, token)
