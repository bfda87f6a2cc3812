"""Which hosts are called, by which way, and whom TLS trusts: real names, led to FAKES on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keystead.provider import KeyDisabled, KeyNotFound, Throttled, Unauthenticated, Unavailable
from providers.aws.fake import FakeAws, Key, fake_aws, refused
from providers.aws.given import CONTEXT, KEK, Make, older, profile, soon, works
from providers.aws.network import Network, network
from providers.vault.certificates import Authority

IRELAND, FRANKFURT, STOCKHOLM = "eu-west-1", "eu-central-1", "eu-north-1"
HOSTS = [f"kms.{region}.amazonaws.com" for region in (IRELAND, FRANKFURT, STOCKHOLM)]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca.crt")


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


def serve(ca: Authority, net: Network, host: str, **options: Any) -> Any:
    """Serve a fake that has the certificate of `host`, and lead the host there."""
    manager = fake_aws(tls=ca.issue(ca.file.parent, host), **options)

    class Served:
        def __enter__(self) -> FakeAws:
            fake = manager.__enter__()
            net.routes[host] = fake.address
            return fake

        def __exit__(self, *problem: object) -> None:
            manager.__exit__(None, None, None)

    return Served()


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "kms.eu-west-1.amazonaws.com"),
        ({"fips": True}, "kms-fips.eu-west-1.amazonaws.com"),
        ({"dualStack": True}, "kms.eu-west-1.api.aws"),
        ({"fips": True, "dualStack": True}, "kms-fips.eu-west-1.api.aws"),
        ({"endpoint": "https://vpce-1.kms.eu-west-1.vpce.amazonaws.com"}, "vpce-1.kms.eu-west-1.vpce.amazonaws.com"),
    ],
)
def test_the_host_is_the_one_that_the_configuration_stands_for(
    ca: Authority, net: Network, make: Make, fields: dict[str, Any], host: str
) -> None:
    with serve(ca, net, host) as aws:
        provider = make(None, aws.new_key(), proxy=net.address, caFile=str(ca.file), **fields)
        provider.open(soon())
        assert provider.unwrap(provider.wrap(KEK, CONTEXT, None, soon()).blob, CONTEXT, "", soon()) == KEK
    assert set(net.asked) == {host}


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "sts.eu-west-1.amazonaws.com"),
        ({"fips": True}, "sts-fips.eu-west-1.amazonaws.com"),
        ({"dualStack": True}, "sts.eu-west-1.api.aws"),
    ],
)
def test_sts_is_called_in_the_region_of_the_key(
    ca: Authority, net: Network, make: Make, fields: dict[str, Any], host: str
) -> None:
    role = {"roleARN": "arn:aws:iam::111122223333:role/keystead"}
    with serve(ca, net, host) as sts:
        provider = make(None, sts.new_key(), proxy=net.address, caFile=str(ca.file), assumeRole=role, **fields)
        with pytest.raises(Unavailable):
            provider.open(soon())
        assert len(sts.asked("AssumeRole")) == 1
    assert net.asked[0] == host


def test_a_profile_that_assumes_a_role_calls_sts_the_same_way_and_not_each_minute(
    ca: Authority, net: Network, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aws").mkdir()
    role = "role_arn = arn:aws:iam::111122223333:role/keystead\nsource_profile = base\n"
    (tmp_path / ".aws/config").write_text(f"[profile kms]\n{role}")
    (tmp_path / ".aws/credentials").write_text(profile("base"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
    with serve(ca, net, "sts.eu-west-1.amazonaws.com") as sts, serve(ca, net, HOSTS[0], keys=sts.keys) as kms:
        kms.secret_keys = sts.secret_keys
        provider = make(None, sts.new_key(), ambient=True, profile="kms", proxy=net.address, caFile=str(ca.file))
        provider.open(soon())
        older(provider, 61)
        assert works(provider)
        assert works(provider)
        assert len(sts.asked("AssumeRole")) == 1
    assert net.asked[0] == "sts.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:9"},
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1"},
        {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"},
        {"AWS_CA_BUNDLE": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere", "SSL_CERT_FILE": "/nowhere"},
        {"AWS_PROFILE": "missing", "AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"},
        {"AWS_MAX_ATTEMPTS": "9", "AWS_RETRY_MODE": "adaptive", "AWS_DEFAULTS_MODE": "in-region"},
        {"AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_SESSION_TOKEN": "wrong"},
        {"AWS_CSM_ENABLED": "true", "AWS_CSM_PORT": "9"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_the_environment_changes_nothing(
    ca: Authority, net: Network, make: Make, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serve(ca, net, HOSTS[0]) as aws:
        provider = make(None, aws.new_key(), proxy=net.address, caFile=str(ca.file))
        provider.open(soon())
        aws.scripts["Encrypt"] = refused("ThrottlingException")
        with pytest.raises(Throttled):
            provider.wrap(KEK, CONTEXT, None, soon())
        assert len(aws.asked("Encrypt")) == 1
    assert set(net.asked) == {HOSTS[0]}


def test_a_certificate_of_another_host_or_authority_is_refused(ca: Authority, net: Network, make: Make) -> None:
    other = Authority.create(ca.file.with_name("other.crt"))
    with serve(ca, net, HOSTS[1]) as aws:
        net.routes[HOSTS[0]] = aws.address
        provider = make(None, aws.new_key(), proxy=net.address, caFile=str(ca.file))
        with pytest.raises(Unavailable, match=rf"DescribeKey at {HOSTS[0]}: TLS: Hostname mismatch.*check caFile"):
            provider.open(soon())
        for trusted in (str(other.file), None):
            provider = make(None, aws.new_key(), proxy=net.address, caFile=trusted)
            with pytest.raises(Unavailable, match=r"TLS: .*certificate.*check caFile"):
                provider.open(soon())
        assert not aws.seen


def test_a_proxy_that_refuses_or_is_away_is_unavailable(net: Network, make: Make) -> None:
    key = Key("1234abcd-12ab-34cd-56ef-1234567890ab", (IRELAND,))
    with pytest.raises(Unavailable, match=rf"{HOSTS[0]}: the proxy answers 502"):
        make(None, key, proxy=net.address).open(soon())
    with pytest.raises(Unavailable, match=rf"{HOSTS[0]}: the proxy: Connection refused"):
        make(None, key, proxy="http://127.0.0.1:9").open(soon())


class TestSeveralRegions:
    """A multi-Region key with replicas in three regions."""

    @pytest.fixture
    def regions(self, ca: Authority, net: Network) -> Iterator[list[FakeAws]]:
        keys: dict[str, Key] = {}
        with (
            serve(ca, net, HOSTS[0], region=IRELAND, keys=keys) as one,
            serve(ca, net, HOSTS[1], region=FRANKFURT, keys=keys) as two,
            serve(ca, net, HOSTS[2], region=STOCKHOLM, keys=keys) as three,
        ):
            yield [one, two, three]

    @pytest.fixture
    def key(self, regions: list[FakeAws]) -> Key:
        return regions[0].new_key(multi_region=(IRELAND, FRANKFURT, STOCKHOLM))

    @pytest.fixture
    def of(self, make: Make, net: Network, ca: Authority) -> Any:
        def build(key: Key, *regions: str) -> Any:
            return make(None, key, regions=list(regions), proxy=net.address, caFile=str(ca.file))

        return build

    def test_what_one_region_wrapped_another_unwraps_under_the_same_ref(
        self, regions: list[FakeAws], key: Key, of: Any
    ) -> None:
        here, there = of(key, IRELAND), of(key, FRANKFURT)
        ref = f"arn:aws:kms::111122223333:key/{key.id}"
        assert here.open(soon()) == there.open(soon()) == ref
        wrapped = here.wrap(KEK, CONTEXT, None, soon())
        assert there.unwrap(wrapped.blob, CONTEXT, "", soon()) == KEK
        (asked,) = regions[1].asked("Decrypt")
        assert asked.body["KeyId"] == key.arn(FRANKFURT)

    def test_the_first_region_is_asked_while_it_answers(self, regions: list[FakeAws], key: Key, of: Any) -> None:
        provider = of(key, FRANKFURT, IRELAND, STOCKHOLM)
        provider.open(soon())
        provider.wrap(KEK, CONTEXT, None, soon())
        assert [len(fake.seen) for fake in regions] == [0, 2, 0]

    @pytest.mark.parametrize("trouble", ["refused", "silent", "throttled", "internal"])
    def test_a_region_that_cannot_answer_is_passed_over_within_the_deadline(
        self, regions: list[FakeAws], key: Key, of: Any, net: Network, trouble: str
    ) -> None:
        provider = of(key, IRELAND, FRANKFURT)
        provider.open(soon())
        blob = provider.wrap(KEK, CONTEXT, None, soon()).blob
        match trouble:
            case "refused":
                provider._kms._transport.close()
                del net.routes[HOSTS[0]]
            case "silent":
                provider._kms._transport.close()
                net.routes[HOSTS[0]] = None
            case "throttled":
                regions[0].scripts["Decrypt"] = refused("ThrottlingException")
            case "internal":
                regions[0].scripts["Decrypt"] = refused("KMSInternalException", status=500)
        assert provider.unwrap(blob, CONTEXT, "", soon(2)) == KEK
        asked = len(regions[0].seen), len(net.asked)
        assert provider.unwrap(blob, CONTEXT, "", soon(2)) == KEK
        assert (len(regions[0].seen), len(net.asked)) == asked, "it is left alone for a while"

    def test_each_region_is_named_if_none_answers(self, regions: list[FakeAws], key: Key, of: Any) -> None:
        provider = of(key, IRELAND, FRANKFURT)
        provider.open(soon())
        for fake in regions:
            fake.scripts["Encrypt"] = refused("ThrottlingException")
        with pytest.raises(Throttled, match=rf"{HOSTS[0]}: Throttling.*; Encrypt at {HOSTS[1]}: Throttling"):
            provider.wrap(KEK, CONTEXT, None, soon())
        regions[1].scripts["Encrypt"] = refused("KMSInternalException")
        with pytest.raises(Unavailable, match=rf"{HOSTS[0]}: Throttling.*; Encrypt at {HOSTS[1]}: KMSInternal"):
            provider.wrap(KEK, CONTEXT, None, soon())

    def test_a_refusal_in_one_region_is_not_taken_to_another(self, regions: list[FakeAws], key: Key, of: Any) -> None:
        provider = of(key, IRELAND, FRANKFURT)
        provider.open(soon())
        key.states[IRELAND] = "Disabled"
        with pytest.raises(KeyDisabled):
            provider.wrap(KEK, CONTEXT, None, soon())
        assert not regions[1].seen
        with pytest.raises(KeyNotFound):
            of(regions[0].new_key(multi_region=(FRANKFURT,)), IRELAND, FRANKFURT).open(soon())

    def test_sts_has_the_same_regions(
        self, regions: list[FakeAws], key: Key, make: Make, net: Network, ca: Authority, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text("a.b.c")
        web = {"roleARN": "arn:aws:iam::111122223333:role/keystead", "tokenFile": str(tmp_path / "token")}
        provider = make(
            None, key, regions=[IRELAND, FRANKFURT], proxy=net.address, caFile=str(ca.file), webIdentity=web
        )
        with pytest.raises(Unavailable, match=r"credentials: .*at sts\.eu-west-1.*; .* at sts\.eu-central-1"):
            provider.open(soon())
        with serve(ca, net, "sts.eu-central-1.amazonaws.com", region=FRANKFURT) as sts:
            with pytest.raises(Unauthenticated, match="UnrecognizedClient"):
                provider.open(soon())
            assert len(sts.asked("AssumeRoleWithWebIdentity")) == 1
