"""The pages for vendors: the adapter of the tutorial keeps the rules, and the pages of rules are those of the code."""

from __future__ import annotations

import base64
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from keystead import registry
from keystead.testing import FakeKms, FakeKmsSandbox, FaultProxy, ProviderSuite, Quality, Tier
from keystead.testing.books import books
from keystead.testing.report import table

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/vendors/tutorial.md"
EXEMPT = {
    "KS-R009": "an example has no page of its own",
    "KS-R095": "an example is not released",
    "KS-R063": "the example reads its token once, and says so to nobody",
}


class Answer(NamedTuple):
    ok: bool
    status: int
    reason: str
    body: dict[str, Any]


class Client:
    """The SDK that the tutorial's adapter imports, in front of a fake KMS."""

    def __init__(self, address: str, *, token: str, retries: int) -> None:
        assert retries == 0
        self._address, self._token = address, token

    def call(self, operation: str, *, key: str, timeout: float, **given: Any) -> Answer:
        path = f"{self._address}/v1/keys/{key}" + (f":{operation}" if operation != "describe" else "")
        sent = {name: base64.b64encode(one).decode() for name, one in given.items() if isinstance(one, bytes)}
        if given.get("version") is not None:
            sent["version"] = int(given["version"]) if given["version"].isdecimal() else 0  # type: ignore[assignment]
        request = urllib.request.Request(
            path,
            data=json.dumps(sent).encode() if given else None,
            headers={"Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                body = json.loads(reply.read())
        except urllib.error.HTTPError as exc:
            return Answer(False, exc.code, str(json.loads(exc.read())["code"]), {})
        for name in ("ciphertext", "plaintext"):
            if name in body:
                body[name] = base64.b64decode(body[name])
        return Answer(True, 200, "", body)


@pytest.fixture(scope="module")
def acme() -> Iterator[Any]:
    """The class that the page prints."""
    (text,) = re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    module, sdk = ModuleType("keystead_acme"), ModuleType("acme_sdk")
    vars(sdk)["Client"] = Client
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "keystead_acme", module)
        patch.setitem(sys.modules, "acme_sdk", sdk)
        exec(compile(text, str(TUTORIAL), "exec", dont_inherit=True), vars(module))
        yield registry.provider_class(
            "acme-kms", [EntryPoint("acme-kms", "keystead_acme:AcmeProvider", registry.GROUP)]
        )


class TestTheAdapterOfTheTutorial(ProviderSuite):
    """It shows Bronze. For Silver its SDK would have to mind the deadline as a whole, which few do."""

    quality = Quality(tier=Tier.BRONZE, exempt=EXEMPT)

    @pytest.fixture
    def kms(self, tmp_path: Path) -> Iterator[FakeKms]:
        with FakeKms().serve() as kms:
            (tmp_path / "token").write_text(kms.token)
            yield kms

    @pytest.fixture
    def provider(self, acme: Any, kms: FakeKms, tmp_path: Path) -> Any:
        fields = {"address": kms.url, "key": "k1", "tokenFile": str(tmp_path / "token")}
        return acme(acme.config_type.model_validate({"name": "k", "provider": "acme-kms", **fields}))

    @pytest.fixture
    def sandbox(self, kms: FakeKms, tmp_path: Path) -> FakeKmsSandbox:
        return Drills(kms, tmp_path / "token")

    @pytest.fixture
    def fault_proxy(self) -> FaultProxy:
        return FaultProxy()


class Drills(FakeKmsSandbox):
    """Only what the adapter of the page can tell apart: it knows the codes 400, 403, 404 and 429."""

    def key_disabled(self) -> Any:
        return super(FakeKmsSandbox, self).key_disabled()

    def version_disabled(self, version: str) -> Any:
        return super(FakeKmsSandbox, self).version_disabled(version)


@pytest.mark.parametrize("book", books(), ids=lambda book: book.prefix)
def test_the_page_of_rules_is_that_of_the_code(book: Any) -> None:
    assert (ROOT / book.page).read_text() == table(book), "write it again: python -m keystead.testing.books"
    assert len(book.rules) > 40
    for rule in book.rules:
        assert re.fullmatch(rf"{book.prefix}[0-9]{{3}}", rule.id)
        for text in (rule.title, rule.why, rule.fix):
            assert text.endswith("."), rule.id
        assert len(rule.why) > 10


def test_the_adapter_of_the_tutorial_is_short() -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    body = text.partition("class AcmeProvider")[2].splitlines()
    assert len([line for line in body if line.strip()]) <= 36
