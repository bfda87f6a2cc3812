"""The whole test of a provider: subclass `ProviderSuite`, and give it one fixture.

class TestAcme(ProviderSuite):
    @pytest.fixture
    def provider(self, fault_proxy):
        with AcmeSandboxServer() as server:
            proxy = fault_proxy.to(server.address)
            yield AcmeProvider(AcmeConfig(name="k", provider="acme-kms", address=proxy.address, ...))
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from keystead.provider import Provider
from keystead.testing import quality
from keystead.testing.case import Case
from keystead.testing.provider_rules import BOOK
from keystead.testing.proxy import FaultProxy
from keystead.testing.quality import Quality, QualityInvalid
from keystead.testing.report import explain, note
from keystead.testing.rules import Rule, Tier, Verdict, judge
from keystead.testing.sandbox import Sandbox


class ProviderSuite:
    """One test for each rule. Give it `provider`, and for more than Bronze also `sandbox`.

    The fixture returns an instance that is not open. The suite makes further instances of its class from its
    configuration, as the host does on every node and at every start. A fixture that sends its provider through the
    fixture `fault_proxy` has the rules about the network tried as well.
    """

    quality: ClassVar[Quality | None] = None
    """What the quality file says; by default the `quality.yaml` beside the provider's module is read."""

    @pytest.fixture
    def provider(self) -> Provider[Any]:
        """Return a provider that is not open. To be overridden."""
        pytest.fail(f"{type(self).__name__} has no fixture `provider`", pytrace=False)

    @pytest.fixture
    def sandbox(self) -> Sandbox:
        """Return what the suite may do to the remote. Override it to have more rules tried."""
        return Sandbox()

    @pytest.mark.parametrize("rule", BOOK.rules, ids=[rule.slug for rule in BOOK.rules])
    def test_rule(
        self,
        rule: Rule[Case],
        provider: Provider[Any],
        sandbox: Sandbox,
        fault_proxy: FaultProxy,
        request: pytest.FixtureRequest,
        record_property: Any,
    ) -> None:
        """Try one rule; a broken one fails with what to do about it."""
        try:
            said = self.quality or quality.of_class(type(provider), provider.config.provider)
        except QualityInvalid as exc:
            pytest.fail(str(exc), pytrace=False)
        reason = said.exempt.get(rule.id)
        if reason is not None and rule.tier is Tier.BRONZE:
            pytest.fail(f"{said.file}: {rule.id} is a rule of Bronze, which has no exemptions", pytrace=False)
        case = Case(provider, sandbox, fault_proxy, said)
        try:
            outcome = judge(rule, case, reason)
        finally:
            case.close()
        note(record_property, provider, said, outcome)
        if outcome.verdict is Verdict.BROKEN:
            pytest.fail(explain(rule, outcome, provider, request.node.nodeid), pytrace=False)
        if outcome.verdict is not Verdict.PASSED:
            pytest.skip(f"{rule.id} {outcome.verdict.value}: {outcome.reason}")
