"""A process whose loggers are all at DEBUG, as a vendor's module or a sitecustomize may leave them."""

from __future__ import annotations

from pathlib import Path

SPOKEN = "DEBUG:loud:each level is DEBUG indeed"
"""What the log of such a process begins with."""
_TALKATIVE = (
    "botocore.auth",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.parsers",
    "google.auth.transport.requests",
    "google.cloud.kms_v1.services.key_management_service.transports.grpc",
    "urllib3.connectionpool",
)
"""Loggers that get the level themselves, so that one of a logger above them changes nothing."""
_SITE = f"""import logging
logging.basicConfig(level=logging.DEBUG)
for name in {_TALKATIVE!r}:
    logging.getLogger(name).setLevel(logging.DEBUG)
logging.getLogger("loud").debug("each level is DEBUG indeed")
"""


def loud_site(directory: Path) -> Path:
    """Make a directory for the front of PYTHONPATH, which sets the levels before anything else is imported."""
    site = directory / "loud"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    return site
