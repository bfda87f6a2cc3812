"""Where tokens come from: a metadata server that is refused, black-holed or slow; files; federation. All are FAKES."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from keystead.provider import Misbehaved, ProviderError, Throttled, Unauthenticated, Unavailable
from keystead.providers.gcp_kms import GcpKmsProvider
from providers.gcp.fake import KEY, TOKEN
from providers.gcp.given import CONTEXT, KEK, Make, Served, claims, service_account, soon
from providers.gcp.metadata import FakeMetadata, black_hole, metadata_server, refusing
from support.patience import AT_ONCE, LATE


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """An address that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def refused() -> Iterator[str]:
    yield refusing()


AWAY = {"refused": (refused, "Connection refused"), "black hole": (black_hole, "no co"), "silent": (silent, "no comp")}


@pytest.mark.parametrize("case", AWAY)
def test_without_a_metadata_server_opening_ends_in_time_and_says_which_server(
    make: Make, served: Served, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    where, text = AWAY[case]
    with where() as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        start = time.monotonic()
        with pytest.raises(Unavailable, match=f"token: GET {address}/computeMetadata.*{text}"):
            make(served).open(start + 0.8)
        assert time.monotonic() - start < 0.8 + LATE
    assert served.kms.calls == []


@pytest.mark.parametrize("case", AWAY)
def test_a_token_that_is_still_good_serves_while_the_metadata_server_is_away(
    make: Make, served: Served, metadata: FakeMetadata, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    metadata.seconds = 6
    provider = make(served)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    assert provider._service is not None
    provider._service._tokens._clock = lambda: time.monotonic() + 4  # past half of its life
    with AWAY[case][0]() as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        times = []
        for _ in range(3):
            start = time.monotonic()
            assert provider.unwrap(blob, CONTEXT, "1", start + 3) == KEK
            times.append(time.monotonic() - start)
    assert times[0] < 1.0 + LATE, "the first looks for a new token when it has its answer"
    assert min(times[1:]) < 0.9, "the others do not"
    assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK


def test_a_token_that_has_ended_while_the_metadata_server_hangs_costs_the_deadline_and_no_thread(
    make: Make, served: Served, metadata: FakeMetadata
) -> None:
    metadata.seconds = 0.3
    provider = make(served)
    provider.open(soon())
    blob = provider.wrap(KEK, CONTEXT, "1", soon()).blob
    time.sleep(0.35)
    metadata.hang = True
    calls, threads = served.kms.count("Decrypt"), threading.active_count()
    for _ in range(3):
        start = time.monotonic()
        with pytest.raises(Unavailable, match="no complete answer within"):
            provider.unwrap(blob, CONTEXT, "1", start + 0.4)
        assert time.monotonic() - start < 0.4 + LATE
    assert served.kms.count("Decrypt") == calls
    assert threading.active_count() <= threads + 3, "each thread is the fake's own, one for a connection"
    metadata.hang, metadata.seconds = False, 3600
    assert provider.unwrap(blob, CONTEXT, "1", soon()) == KEK


ANSWERS: dict[str, tuple[dict[str, object], type[ProviderError], str]] = {
    "no service account": ({"status": 404, "body": b"not found"}, Unauthenticated, "HTTP 404: not found .give the"),
    "forbidden": ({"status": 403, "body": b"no"}, Unauthenticated, "HTTP 403: no"),
    "busy": ({"status": 503}, Unavailable, "HTTP 503"),
    "limited": ({"status": 429}, Throttled, "HTTP 429"),
    "something else": ({"flavor": "Apache"}, Unavailable, "something else answers there"),
    "no JSON": ({"body": b"<html>"}, Misbehaved, "the answer has no token"),
    "no token": ({"body": b"{}"}, Misbehaved, "the answer has no token"),
    "a token that is no text": ({"body": b'{"access_token": null, "expires_in": "x"}'}, Misbehaved, "no token"),
    "a redirect": ({"status": 302}, Unauthenticated, "HTTP 302"),
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("served", ["grpc"], indirect=True)
def test_an_answer_of_the_metadata_server_becomes_its_class_of_error_at_once(
    make: Make, served: Served, metadata: FakeMetadata, case: str
) -> None:
    changes, error, text = ANSWERS[case]
    for name, value in changes.items():
        setattr(metadata, name, value)
    start = time.monotonic()
    with pytest.raises(error, match=text) as caught:
        make(served).open(soon())
    assert type(caught.value) is error
    assert time.monotonic() - start < AT_ONCE
    assert len(metadata.asked) == 1, "nothing is repeated"


def test_the_metadata_server_is_asked_once_as_its_reference_says(
    make: Make, served: Served, metadata: FakeMetadata
) -> None:
    provider = make(served)
    provider.open(soon())
    for _ in range(3):
        provider.current_version(soon())
    ((path, headers, _),) = metadata.asked
    assert path == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert headers["Metadata-Flavor"] == "Google"


def test_a_token_that_was_revoked_is_replaced_and_the_call_repeated(
    make: Make, served: Served, metadata: FakeMetadata
) -> None:
    provider = make(served)
    provider.open(soon())
    assert provider._service is not None
    provider._service._tokens._clock = lambda: time.monotonic() + 60
    metadata.token = "ya29.second"
    served.kms.tokens = {"ya29.second"}
    assert provider.current_version(soon()) == "1"
    assert [call[2] for call in served.kms.calls[-2:]] == [f"Bearer {TOKEN}", "Bearer ya29.second"]


def test_a_new_token_that_is_refused_makes_no_circle(make: Make, served: Served, metadata: FakeMetadata) -> None:
    served.kms.tokens = set()
    with pytest.raises(Unauthenticated, match="check credentialsFile or the machine's service account, and the clock"):
        make(served).open(soon())
    assert (len(served.kms.calls), len(metadata.asked)) == (1, 1)


def test_a_service_account_signs_its_token_and_asks_nobody(
    make: Make, served: Served, metadata: FakeMetadata, tmp_path: Path
) -> None:
    file = service_account(tmp_path / "sa.json", "one@lab-1.iam.gserviceaccount.com")
    provider = make(served, credentialsFile=str(file))
    assert provider.open(soon()) == KEY
    about = claims(served.kms.calls[0][2])
    assert about["iss"] == about["sub"] == "one@lab-1.iam.gserviceaccount.com"
    assert about["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert metadata.asked == []


def test_a_service_account_s_file_that_is_replaced_is_used_for_the_next_token(
    make: Make, served: Served, tmp_path: Path
) -> None:
    provider = make(served, credentialsFile=str(service_account(tmp_path / "sa.json", "one@a.com")))
    provider.open(soon())
    service_account(tmp_path / "sa.json", "two@a.com")
    assert provider._service is not None
    provider._service._tokens._clock = lambda: time.monotonic() + 3601
    provider.current_version(soon())
    assert [claims(call[2])["iss"] for call in served.kms.calls] == ["one@a.com", "two@a.com"]


def test_the_file_of_google_application_credentials_is_used_where_none_is_configured(
    make: Make, served: Served, metadata: FakeMetadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path / "sa.json", "one@a.com")))
    make(served).open(soon())
    assert claims(served.kms.calls[0][2])["iss"] == "one@a.com"
    other = service_account(tmp_path / "other.json", "other@a.com")
    make(served, credentialsFile=str(other)).open(soon())
    assert claims(served.kms.calls[1][2])["iss"] == "other@a.com"
    assert metadata.asked == []


def federation(directory: Path, address: str, **fields: object) -> Path:
    (directory / "subject").write_text("a.subject.token")
    about = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"http://{address}/v1/token",
        "credential_source": {"file": str(directory / "subject")},
    }
    (directory / "federation.json").write_text(json.dumps({**about, **fields}))
    return directory / "federation.json"


def opened(make: Make, served: Served, file: Path, seconds: float = 10.0) -> GcpKmsProvider:
    provider = make(served, credentialsFile=str(file))
    provider.open(soon(seconds))
    return provider


def test_a_federated_identity_exchanges_the_token_of_its_file(make: Make, served: Served, tmp_path: Path) -> None:
    with metadata_server() as sts:
        opened(make, served, federation(tmp_path, sts.address))
        ((path, _, body),) = sts.asked
    sent = parse_qs(body.decode())
    assert (path, sent["subject_token"]) == ("/v1/token", ["a.subject.token"])
    assert sent["scope"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert served.kms.calls[0][2] == f"Bearer {TOKEN}"


def test_a_federated_identity_may_act_as_a_service_account(make: Make, served: Served, tmp_path: Path) -> None:
    with metadata_server() as sts, metadata_server() as iam:
        iam.body = json.dumps({"accessToken": "ya29.acted", "expireTime": "2099-01-01T00:00:00Z"}).encode()
        url = (
            f"http://{iam.address}/v1/projects/-/serviceAccounts/kms@lab-1.iam.gserviceaccount.com:generateAccessToken"
        )
        opened(make, served, federation(tmp_path, sts.address, service_account_impersonation_url=url))
        assert iam.asked[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert served.kms.calls[0][2] == "Bearer ya29.acted"


@pytest.mark.parametrize("served", ["grpc"], indirect=True)
def test_a_token_service_that_refuses_or_is_away_is_told_apart(make: Make, served: Served, tmp_path: Path) -> None:
    with metadata_server() as sts:
        file = federation(tmp_path, sts.address)
        sts.status, sts.body = 400, b'{"error": "invalid_grant", "error_description": "The token has ended"}'
        with pytest.raises(Unauthenticated, match=r"federation\.json .external_account.*invalid_grant.*has ended"):
            opened(make, served, file)
        sts.status, sts.body = 503, b"busy"
        start = time.monotonic()
        with pytest.raises(Unavailable, match=f"POST {sts.address}/v1/token: HTTP 503"):
            opened(make, served, file)
        assert time.monotonic() - start < AT_ONCE
        sts.status, sts.body = 200, b"[]"
        with pytest.raises(Unauthenticated, match="is not usable"):
            opened(make, served, file)
        sts.hang = True
        start = time.monotonic()
        with pytest.raises(Unavailable, match="no complete answer"):
            opened(make, served, file, 0.5)
        assert time.monotonic() - start < 0.5 + LATE
    with pytest.raises(Unavailable, match="Connection refused"):
        opened(make, served, file)
    (tmp_path / "subject").unlink()
    with pytest.raises(Unauthenticated, match=r"cannot read .*/subject: No such file"):
        opened(make, served, file)
    file.unlink()
    with pytest.raises(Unauthenticated, match=r"cannot read .*federation\.json: No such file"):
        opened(make, served, file)
