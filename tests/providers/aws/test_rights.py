"""The policy that the page of the provider prints allows each call that is made, and none for another cluster.

IAM is not here to decide. What is compared is what it compares: action, resource, and the encryption context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keystead.provider import WrapContext
from providers.aws.fake import FakeAws
from providers.aws.given import CONTEXT, KEK, Make, soon

PAGE = Path(__file__).parents[3] / "docs/providers/aws-kms.md"
CLUSTER = "prod-eu-1"
CONTEXT_KEY = "kms:EncryptionContext:"


def allowed(policy: Mapping[str, Any], operation: str, body: Mapping[str, Any]) -> bool:
    """Whether a statement allows a request; of conditions, those that the page uses are known."""
    for statement in policy["Statement"]:
        actions = statement["Action"]
        if f"kms:{operation}" not in ([actions] if isinstance(actions, str) else actions):
            continue
        condition = statement.get("Condition", {})
        assert set(condition) <= {"StringEquals"}
        wanted = condition.get("StringEquals", {})
        assert all(name.startswith(CONTEXT_KEY) for name in wanted)
        sent = body.get("EncryptionContext", {})
        if (
            statement["Effect"] == "Allow"
            and statement["Resource"] == body["KeyId"]
            and all(sent.get(name.removeprefix(CONTEXT_KEY)) == value for name, value in wanted.items())
        ):
            return True
    return False


def test_the_policy_of_the_page_allows_what_is_called_and_for_no_other_cluster(aws: FakeAws, make: Make) -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    key = aws.new_key()
    policy = json.loads(re.sub(r"arn:aws:kms:[^\"]+", key.arn("eu-west-1"), text))
    provider = make(aws, key)
    provider.open(soon())
    for cluster in (CLUSTER, "another"):
        context = WrapContext(CONTEXT.kek_id, cluster)
        provider.unwrap(provider.wrap(KEK, context, None, soon()).blob, context, "", soon())
    verdicts = [(request.operation, allowed(policy, request.operation, request.body)) for request in aws.seen]
    assert verdicts == [
        ("DescribeKey", True),
        ("Encrypt", True),
        ("Decrypt", True),
        ("Encrypt", False),
        ("Decrypt", False),
    ]
