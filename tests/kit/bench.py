"""A case for any subclass of the reference provider: the fake KMS behind the fault proxy, with TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keystead.testing import FakeKms, FakeKmsProvider, FakeKmsSandbox, FaultProxy, Quality
from keystead.testing.case import Case
from keystead.testing.provider_rules import BOOK
from keystead.testing.rules import Outcome, judge


@contextlib.contextmanager
def case_of(
    provider_type: type[FakeKmsProvider], directory: Path, fields: Mapping[str, Any] | None = None
) -> Iterator[Case]:
    """Yield a case with a service of its own."""
    proxy = FaultProxy()
    with FakeKms().serve() as kms:
        token_file = directory / "token"
        token_file.write_text(kms.token)
        proxy.to(kms.url.removeprefix("http://"), tls=True)
        described = {
            "name": "k",
            "provider": "fake-kms",
            "url": f"https://{proxy.address}",
            "tokenFile": token_file,
            "caFile": proxy.ca_file,
            **(fields or {}),
        }
        config: Any = provider_type.config_type.model_validate(described)
        case = Case(provider_type(config), FakeKmsSandbox(kms, token_file), proxy, Quality())
        try:
            yield case
        finally:
            case.close()
            proxy.close()


def trial(
    rule_id: str, provider_type: type[FakeKmsProvider], directory: Path, fields: Mapping[str, Any] | None = None
) -> Outcome:
    """Try one rule."""
    with case_of(provider_type, directory, fields) as case:
        return judge(BOOK.find(rule_id), case)
