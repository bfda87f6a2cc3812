from __future__ import annotations

import pytest

for sdk in ("boto3", "google.cloud.kms_v1", "hvac"):
    pytest.importorskip(sdk, reason=f"NOT TESTED: no {sdk}; pip install --require-hashes -r requirements/backends.txt")
