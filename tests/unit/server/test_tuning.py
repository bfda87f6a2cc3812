"""What is put into the environment before grpcio is imported."""

from __future__ import annotations

import os

import pytest

from keystead.server import tuning


def prepared(monkeypatch: pytest.MonkeyPatch, release: str, environment: dict[str, str]) -> dict[str, str]:
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(tuning, "version", lambda _name: release)
    tuning.prepare_environment()
    return environment


@pytest.mark.parametrize(
    ("release", "asked"), [("1.79.9", False), ("1.80.0", True), ("1.85.3", True), ("1.86.0rc1", False), ("2.0", False)]
)
def test_the_faster_listener_is_asked_for_where_grpcio_knows_it(
    monkeypatch: pytest.MonkeyPatch, release: str, asked: bool
) -> None:
    environment = prepared(monkeypatch, release, {})
    assert environment.get("GRPC_EXPERIMENTS") == ("-event_engine_listener" if asked else None)


def test_what_the_operator_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"GRPC_EXPERIMENTS": "theirs", "GRPC_ENABLE_FORK_SUPPORT": "1"}
    assert prepared(monkeypatch, "1.85.3", dict(theirs)) == theirs
