"""Where credentials come from: files, environment, commands and the instance, from FAKES over real sockets."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from keystead.provider import ProviderError, Unauthenticated, Unavailable
from providers.aws.fake import ACCESS, ROLE, SECRET, FakeAws, Reply, Script
from providers.aws.given import Make, older, profile, soon, works
from providers.aws.test_faults import hang, write
from support.patience import LATE

TOKEN = "latest/api/token"
ROLES = "latest/meta-data/iam/security-credentials/"


# Files


def test_a_profile_of_a_file_is_used_and_no_other(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(profile("default", "AKIAWRONG") + profile("kms"))
    key = aws.new_key()
    provider = make(aws, key, profile="kms")
    provider.open(soon())
    assert works(provider)
    with pytest.raises(Unauthenticated, match=r"UnrecognizedClientException.*renew or replace them"):
        make(aws, key).open(soon())


def test_a_file_that_changes_is_read_again_at_once(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    del aws.secret_keys[ACCESS]
    aws.secret_keys["AKIANEW"] = ("new-secret", None)
    with pytest.raises(Unauthenticated):
        works(provider)
    (tmp_path / "credentials").write_text(profile("default", "AKIANEW", "new-secret"))
    assert works(provider)


def test_a_file_that_breaks_leaves_the_old_credentials_in_use(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    provider = make(aws, aws.new_key())
    provider.open(soon())
    (tmp_path / "credentials").write_text("[default")
    assert works(provider)
    (tmp_path / "credentials").unlink()
    assert works(provider)


BAD_FILES = {
    "missing": (None, "No such file or directory"),
    "not a file of profiles": ("aws_secret_access_key = canary", "Unable to parse config file"),
    "without the profile": ("[other]\n", "profile .* could not be found"),
    "without keys": ("[default]\nregion = eu-west-1\n", "profile default has none in "),
    "with half a pair": ("[default]\naws_access_key_id = AKIA\n", "Partial credentials found"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_without_credentials_is_unauthenticated_and_the_instance_is_not_asked(
    aws: FakeAws, make: Make, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, text = BAD_FILES[case]
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    file = tmp_path / "odd"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Unauthenticated, match=f"^credentials: .*{text}") as caught:
        make(aws, aws.new_key(), sharedCredentialsFile=str(file)).open(soon())
    assert str(file) in str(caught.value)
    assert "canary" not in str(caught.value)
    assert not aws.seen


def test_a_profile_of_the_users_own_files_is_used_without_the_environment(
    aws: FakeAws, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(profile("kms"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    provider = make(aws, aws.new_key(), ambient=True, profile="kms")
    provider.open(soon())
    assert works(provider)
    with pytest.raises(Unauthenticated, match=r"credentials: The config profile \(missing\) could not be found"):
        make(aws, aws.new_key(), ambient=True, profile="missing").open(soon())


# Commands


def command(tmp_path: Path, code: str) -> str:
    script = tmp_path / "helper.py"
    script.write_text(code)
    (tmp_path / ".aws").mkdir(exist_ok=True)
    (tmp_path / ".aws/config").write_text(f"[profile anywhere]\ncredential_process = {sys.executable} {script}\n")
    return "anywhere"


def test_the_command_of_a_profile_gives_credentials(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    keys = {"Version": 1, "AccessKeyId": ACCESS, "SecretAccessKey": SECRET, "Expiration": "2100-01-01T00:00:00Z"}
    name = command(tmp_path, f"import json; print(json.dumps({keys}))")
    provider = make(aws, aws.new_key(), ambient=True, profile=name)
    provider.open(soon())
    assert works(provider)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('no certificate')", "custom-process: no certificate"),
        ("print('canary')", "credentials: JSONDecodeError"),
        ("print('{}')", "Unsupported version"),
    ],
)
def test_a_command_that_fails_is_unauthenticated(
    aws: FakeAws, make: Make, tmp_path: Path, code: str, text: str
) -> None:
    with pytest.raises(Unauthenticated, match=text) as caught:
        make(aws, aws.new_key(), ambient=True, profile=command(tmp_path, code)).open(soon())
    assert "canary" not in str(caught.value)


def test_a_command_that_hangs_is_ended_at_the_deadline(aws: FakeAws, make: Make, tmp_path: Path) -> None:
    provider = make(aws, aws.new_key(), ambient=True, profile=command(tmp_path, "import time; time.sleep(60)"))
    start = time.monotonic()
    with pytest.raises(Unavailable, match="credentials: credential_process gave no answer in time"):
        provider.open(soon(1))
    assert time.monotonic() - start < 1 + LATE


# The default chain


def test_the_environment_comes_first(aws: FakeAws, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    provider = make(aws, aws.new_key(), ambient=True)
    provider.open(soon())
    assert works(provider)


def test_without_any_credentials_it_is_said_where_they_were_looked_for(aws: FakeAws, make: Make) -> None:
    text = "^credentials: there are none in the environment and in files, and AWS_EC2_METADATA_DISABLED switches off"
    with pytest.raises(Unauthenticated, match=text):
        make(aws, aws.new_key(), ambient=True).open(soon())


def test_the_role_of_the_instance_is_used_by_version_2_of_its_service(instance: FakeAws, make: Make) -> None:
    provider = make(instance, instance.new_key(), ambient=True, proxy=None)
    provider.open(soon())
    assert works(provider)
    asked = [request.operation for request in instance.seen if request.operation[:4] in ("GET ", "PUT ")]
    assert asked == [f"PUT {TOKEN}", f"GET {ROLES}", f"GET {ROLES}{ROLE}"], "once, and then from memory"
    assert all(request.headers.get("x-aws-ec2-metadata-token") for request in instance.asked(f"GET {ROLES}"))


def test_the_service_going_away_costs_nothing_while_the_credentials_live(instance: FakeAws, make: Make) -> None:
    provider = make(instance, instance.new_key(), ambient=True)
    provider.open(soon())
    instance.scripts[f"PUT {TOKEN}"] = Reply(500, b"")
    older(provider, 1900)
    assert works(provider)
    assert len(instance.asked(f"PUT {TOKEN}")) == 2, "tried after the call, and not at each"


def test_credentials_that_the_service_could_not_renew_are_used_on(instance: FakeAws, make: Make) -> None:
    instance.lifetime = -60
    provider = make(instance, instance.new_key(), ambient=True)
    provider.open(soon())
    assert works(provider)
    assert instance.issued == 1


def test_credentials_that_aws_does_not_take_any_more_are_replaced_within_the_call(
    instance: FakeAws, make: Make
) -> None:
    provider = make(instance, instance.new_key(), ambient=True)
    provider.open(soon())
    instance.secret_keys.clear()
    older(provider, 31)
    assert works(provider)
    assert instance.issued == 2


NO_ROLE = "no role is attached"
INSTANCE_FAULTS: dict[str, tuple[str, Reply, type[ProviderError], str]] = {
    "no role": (f"GET {ROLES}", Reply(404, b""), Unauthenticated, NO_ROLE),
    "an empty role": (f"GET {ROLES}", Reply(200, b""), Unauthenticated, "names no role"),
    "a page instead of a role": (f"GET {ROLES}", Reply(200, b"<html>a b</html>"), Unauthenticated, "names no role"),
    "switched off": (f"PUT {TOKEN}", Reply(403, b""), Unauthenticated, f"refuses {TOKEN}|refuses PUT"),
    "version 1 only": (f"PUT {TOKEN}", Reply(405, b""), Unauthenticated, "refuses PUT api/token with 405"),
    "a token that is none": (f"PUT {TOKEN}", Reply(200, b"a b\r\nX: y"), Unavailable, "answered without a token"),
    "no credentials": (f"GET {ROLES}{ROLE}", Reply(404, b""), Unauthenticated, NO_ROLE),
    "an error in JSON": (
        f"GET {ROLES}{ROLE}",
        Reply(200, {"Code": "AssumeRoleUnauthorizedAccess", "Message": "canary"}),
        Unauthenticated,
        "answers AssumeRoleUnauthorizedAccess for role control-plane",
    ),
    "no JSON": (f"GET {ROLES}{ROLE}", Reply(200, b"canary"), Unavailable, "cannot be read .JSONDecodeError"),
    "half of it": (f"GET {ROLES}{ROLE}", Reply(200, {"AccessKeyId": "canary"}), Unavailable, "cannot be read"),
    "throttled": (f"PUT {TOKEN}", Reply(429, b""), Unavailable, "HTTP 429"),
    "an error": (f"GET {ROLES}", Reply(500, b"canary"), Unavailable, "HTTP 500"),
}


@pytest.mark.parametrize("case", INSTANCE_FAULTS)
def test_a_fault_of_the_instance_has_its_class(instance: FakeAws, make: Make, case: str) -> None:
    operation, reply, error, text = INSTANCE_FAULTS[case]
    instance.scripts[operation] = reply
    with pytest.raises(error, match=f"^credentials: .*({text})") as caught:
        make(instance, instance.new_key(), ambient=True).open(soon())
    assert type(caught.value) is error
    assert "canary" not in str(caught.value)
    assert not instance.asked("DescribeKey")


@pytest.mark.parametrize("fault", ["hang", "drip", "refused"])
def test_an_instance_that_does_not_answer_ends_within_the_deadline(
    instance: FakeAws, make: Make, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts: dict[str, Script] = {
        "hang": hang(instance),
        "drip": write(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", every=0.05)(instance),
    }
    if fault in scripts:
        instance.scripts[f"PUT {TOKEN}"] = scripts[fault]
    else:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"^credentials: none in the environment and in files; .*hop limit"):
        make(instance, instance.new_key(), ambient=True).open(soon(0.8))
    assert time.monotonic() - start < 0.8 + LATE
