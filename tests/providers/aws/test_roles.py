"""Roles that are assumed, by credentials or by a token, from a FAKE of STS over real sockets."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import PermissionDenied, ProviderError, Throttled, Unauthenticated, Unavailable
from providers.aws.fake import REQUEST_ID, SECRET, FakeAws, Reply, fake_aws, refused
from providers.aws.given import CONTEXT, KEK, Make, older, profile, soon, works
from providers.aws.test_faults import hang
from support.patience import LATE

ARN = "arn:aws:iam::111122223333:role/keystead"


@pytest.fixture
def web(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text("canary.web.token\n")
    return {"roleARN": ARN, "tokenFile": str(tmp_path / "token")}


def test_a_role_is_assumed_with_other_credentials(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    (tmp_path / "external").write_text("canary-external-id\n")
    role = {"roleARN": ARN, "externalIDFile": str(tmp_path / "external"), "sessionName": "node-1"}
    provider = make(aws, aws.new_key(), assumeRole=role)
    provider.open(soon())
    assert works(provider)
    (asked,) = aws.asked("AssumeRole")
    assert (asked.body["RoleArn"], asked.body["RoleSessionName"]) == (ARN, "node-1")
    assert asked.body["ExternalId"] == "canary-external-id"
    assert "/eu-west-1/sts/" in asked.headers["authorization"]


def test_a_role_is_assumed_with_a_profile(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(profile("default", "AKIAWRONG") + profile("base"))
    provider = make(aws, aws.new_key(), assumeRole={"roleARN": ARN, "sourceProfile": "base"})
    provider.open(soon())
    assert works(provider)


def test_a_role_is_assumed_with_the_role_of_the_instance(instance: FakeAws, make: Make) -> None:
    provider = make(instance, instance.new_key(), ambient=True, assumeRole={"roleARN": ARN})
    provider.open(soon())
    assert works(provider)
    assert instance.issued == 2


def test_a_role_is_assumed_with_a_token_that_is_read_again(
    aws: FakeAws, make: Make, web: dict[str, Any], tmp_path: Path
) -> None:
    provider = make(aws, aws.new_key(), webIdentity=web)
    provider.open(soon())
    assert works(provider)
    (tmp_path / "token").write_text("canary.second.token.of.another.size")
    assert works(provider)
    first, second = aws.asked("AssumeRoleWithWebIdentity")
    assert first.body["WebIdentityToken"] == "canary.web.token"
    assert second.body["WebIdentityToken"] == "canary.second.token.of.another.size"
    assert "authorization" not in first.headers
    assert first.body["RoleSessionName"] == "keystead"


def test_a_role_is_assumed_again_at_half_its_life_and_sts_may_be_down_meanwhile(
    aws: FakeAws, make: Make, web: dict[str, Any]
) -> None:
    provider = make(aws, aws.new_key(), webIdentity=web)
    provider.open(soon())
    older(provider, 1900)
    aws.scripts["AssumeRoleWithWebIdentity"] = Reply(503, b"")
    assert works(provider)
    assert works(provider)
    assert len(aws.asked("AssumeRoleWithWebIdentity")) == 2
    older(provider, 3700)
    with pytest.raises(Unavailable, match=r"^credentials: AssumeRoleWithWebIdentity at .*HTTP 503"):
        works(provider)
    del aws.scripts["AssumeRoleWithWebIdentity"]
    assert works(provider)


def xml(code: str, message: str = "because", status: int = 403) -> Reply:
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        f"<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
    )
    return Reply(status, text.encode(), {"Content-Type": "text/xml"})


STS_FAULTS: dict[str, tuple[Reply, type[ProviderError], str]] = {
    "no trust": (xml("AccessDenied"), Unauthenticated, f"AccessDenied: because .RequestId {REQUEST_ID}"),
    "an ended token": (xml("ExpiredTokenException", status=400), Unauthenticated, "ExpiredTokenException"),
    "a bad token": (xml("InvalidIdentityToken", status=400), Unauthenticated, "InvalidIdentityToken: because"),
    "a closed region": (xml("RegionDisabledException"), Unauthenticated, "RegionDisabledException"),
    "its provider away": (xml("IDPCommunicationError", status=400), Unavailable, "STS cannot reach the provider"),
    "throttled": (xml("Throttling", "Rate exceeded", 400), Throttled, "Throttling: Rate exceeded"),
    "an error": (xml("InternalFailure", status=500), Unavailable, "InternalFailure"),
    "a proxy's page": (Reply(502, b"<html>", {}), Unavailable, "HTTP 502"),
    "200 with a page": (Reply(200, b"<html>hi</html>", {}), Unavailable, "without credentials|not an answer of AWS"),
    "200 with nothing": (Reply(200, b"", {}), Unavailable, "without credentials|not an answer of AWS"),
    "200 with half": (Reply(200, b"<A><AR/></A>", {}), Unavailable, "without credentials|not an answer of AWS"),
}


@pytest.mark.parametrize("case", STS_FAULTS)
def test_a_fault_of_sts_is_said_to_be_one_of_credentials(
    aws: FakeAws, make: Make, web: dict[str, Any], case: str
) -> None:
    reply, error, text = STS_FAULTS[case]
    aws.scripts["AssumeRoleWithWebIdentity"] = reply
    with pytest.raises(error, match=f"^credentials: AssumeRoleWithWebIdentity .*({text})") as caught:
        make(aws, aws.new_key(), webIdentity=web).open(soon())
    assert type(caught.value) is error
    assert not aws.asked("DescribeKey")
    assert len(aws.asked("AssumeRoleWithWebIdentity")) == 1


@pytest.mark.parametrize("kind", ["assumeRole", "webIdentity"])
def test_an_sts_that_is_away_or_hangs_is_said_to_be_one_of_credentials_in_time(
    aws: FakeAws, make: Make, web: dict[str, Any], kind: str
) -> None:
    role = web if kind == "webIdentity" else {"roleARN": ARN}
    with pytest.raises(Unavailable, match=r"^credentials: AssumeRole\S* at 127\.0\.0\.1:9: Connection refused"):
        make(aws, aws.new_key(), stsEndpoint="http://127.0.0.1:9", **{kind: role}).open(soon())
    aws.scripts["AssumeRole"] = aws.scripts["AssumeRoleWithWebIdentity"] = hang(aws)
    provider = make(aws, aws.new_key(), **{kind: role})
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"^credentials: AssumeRole\S* at .*: no (complete answer|time left)"):
        provider.open(soon(0.8))
    assert time.monotonic() - start < 0.8 + LATE


@pytest.mark.parametrize("content", [None, b"", b"two words", b"x" * 70_000, b"\xff"])
def test_a_token_that_cannot_be_read_or_is_none_is_unauthenticated(
    aws: FakeAws, make: Make, web: dict[str, Any], tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token"
    file.unlink() if content is None else file.write_bytes(content)
    text = "cannot read .*: No such file" if content is None else "should hold one secret of printable ASCII"
    with pytest.raises(Unauthenticated, match=f"^credentials: .*{re.escape(str(file))}|{text}"):
        make(aws, aws.new_key(), webIdentity=web).open(soon())
    assert not aws.seen


def test_secrets_that_sts_repeats_are_not_shown(aws: FakeAws, make: Make, web: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "external").write_text("canary-external-id")
    echoes = f"canary.web.token canary-external-id {SECRET}"
    aws.scripts["AssumeRole"] = aws.scripts["AssumeRoleWithWebIdentity"] = xml("AccessDenied", echoes)
    role = {"roleARN": ARN, "externalIDFile": str(tmp_path / "external")}
    sent: list[tuple[dict[str, Any], list[str]]] = [
        ({"webIdentity": web}, ["canary.web.token"]),
        ({"assumeRole": role}, ["canary-external-id", SECRET]),
    ]
    for fields, secrets in sent:
        with pytest.raises(Unauthenticated, match=r"\[removed\]") as caught:
            make(aws, aws.new_key(), **fields).open(soon())
        for secret in secrets:
            assert secret not in str(caught.value) + repr(caught.value.__context__)


def test_a_denied_call_is_no_reason_for_new_credentials(aws: FakeAws, make: Make, web: dict[str, Any]) -> None:
    provider = make(aws, aws.new_key(), webIdentity=web)
    provider.open(soon())
    older(provider, 60)
    aws.scripts["Encrypt"] = refused("AccessDeniedException", f"User: {ARN} is not authorized to perform: kms:Encrypt")
    for _ in range(3):
        with pytest.raises(PermissionDenied, match=f"User: {ARN} is not authorized to perform: kms:Encrypt"):
            provider.wrap(KEK, CONTEXT, None, soon())
    assert aws.issued == 1


def test_credentials_that_are_refused_again_and_again_do_not_flood_sts(
    aws: FakeAws, make: Make, web: dict[str, Any]
) -> None:
    provider = make(aws, aws.new_key(), webIdentity=web)
    provider.open(soon())
    older(provider, 60)
    aws.scripts["Encrypt"] = refused("UnrecognizedClientException")
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            provider.wrap(KEK, CONTEXT, None, soon())
    assert aws.issued == 2


def test_no_variable_of_the_environment_gives_credentials_to_a_role_by_token(
    aws: FakeAws, make: Make, web: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_aws() as other:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_KMS"):
            monkeypatch.setenv(name, other.address)
        monkeypatch.setenv("AWS_PROFILE", "missing")
        provider = make(aws, aws.new_key(), webIdentity=web)
        provider.open(soon())
        assert works(provider)
        assert not other.seen
