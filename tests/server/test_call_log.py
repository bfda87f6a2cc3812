"""What the log of calls shows at the verbosity that turns it on, and what it never shows."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from support.serving import served

TEXT_SEED = b"thirty-two bytes that are a text"


def test_a_successful_v2_call_is_logged_with_the_uid_of_the_api_server(directory: Path) -> None:
    with capture_logs() as lines, served(directory, log_calls=True) as plugin:
        plugin.client.encrypt(TEXT_SEED, uid="6fd9-11")
    (line,) = [line for line in lines if line["event"] == "rpc"]
    assert (line["method"], line["uid"], line["code"]) == ("Encrypt", "6fd9-11", "OK")
    assert TEXT_SEED.decode() not in str(lines)


def test_a_v1_plaintext_that_is_a_text_does_not_pass_for_a_uid(directory: Path) -> None:
    # Field 2 is the uid in v2 and the plaintext in v1.
    assert len(TEXT_SEED) == 32
    with capture_logs() as lines, served(directory, log_calls=True) as plugin:
        assert plugin.client.decrypt_v1(plugin.client.encrypt_v1(TEXT_SEED)) == TEXT_SEED
    assert [line["method"] for line in lines if line["event"] == "rpc"] == ["Encrypt", "Decrypt"]
    assert TEXT_SEED.decode() not in str(lines)


def test_calls_are_not_logged_below_that_verbosity(directory: Path) -> None:
    with capture_logs() as lines, served(directory) as plugin:
        plugin.client.seal(TEXT_SEED)
    assert not [line for line in lines if line["event"] == "rpc"]


def test_a_flood_of_equal_failures_is_one_line_and_at_the_higher_verbosity_all_of_them(directory: Path) -> None:
    for log_calls, expected in ((False, 1), (True, 20)):
        with capture_logs() as lines, served(directory, log_calls=log_calls) as plugin:
            for _ in range(20):
                plugin.client.refusal("/v2.KeyManagementService/Encrypt", b"")
        failures = [line for line in lines if line["event"] == "rpc"]
        assert len(failures) == expected
        assert (failures[0]["endpoint"], failures[0]["code"]) == ("main", "INVALID_ARGUMENT")
