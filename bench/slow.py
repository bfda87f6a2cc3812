"""A Keystead endpoint whose remote KMS takes its time, for `bench.cold`.

Writes a file of seeds that were encrypted under several local KEKs, then serves an endpoint that holds none of them.
After SIGTERM it prints the number of unwraps that its provider was asked for.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

from keystead.server.tuning import prepare_environment

prepare_environment()

from keystead._core import AeadKey, KekStore  # noqa: E402
from keystead._proto.v2 import api_pb2 as v2  # noqa: E402
from keystead.host.endpoint import Endpoint  # noqa: E402
from keystead.host.guard import Guard  # noqa: E402
from keystead.host.members import Member, Members  # noqa: E402
from keystead.host.mint import mint  # noqa: E402
from keystead.host.target import Target  # noqa: E402
from keystead.provider import (  # noqa: E402
    KEK_SIZE,
    Capabilities,
    Provider,
    ProviderConfig,
    Unavailable,
    WrapContext,
    Wrapped,
)
from keystead.server.listener import Listener  # noqa: E402
from keystead.server.metrics import Metrics  # noqa: E402
from keystead.server.services import methods  # noqa: E402

CLUSTER = "bench"


class SlowProvider(Provider[ProviderConfig]):
    """Wraps at once and unwraps after `delay` seconds."""

    api: ClassVar[int] = 1
    config_type: ClassVar[type[ProviderConfig]] = ProviderConfig
    capabilities: ClassVar[Capabilities] = Capabilities(
        binds_context=True, has_versions=False, authenticated_wrap=True, max_blob=24 + KEK_SIZE + 16
    )

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self.delay = 0.0
        self.asked: list[bytes] = []
        """The kek_id of each unwrap."""
        self._key = AeadKey(bytearray(os.urandom(KEK_SIZE)))

    def open(self, deadline: float) -> str:  # noqa: ARG002  this remote never fails
        return "slow"

    def current_version(self, deadline: float) -> str | None:  # noqa: ARG002
        return ""

    def wrap(self, kek: bytes, context: WrapContext, version: str | None, deadline: float) -> Wrapped:  # noqa: ARG002
        return Wrapped(self._key.seal(kek, context.aad), "")

    def unwrap(self, blob: bytes, context: WrapContext, version: str, deadline: float) -> bytearray:  # noqa: ARG002
        self.asked.append(context.kek_id)
        left = deadline - time.monotonic()
        time.sleep(max(0.0, min(self.delay, left)))
        if left < self.delay:
            raise Unavailable("the deadline came first")
        return self._key.open(blob, context.aad)

    def close(self) -> None:
        pass


def main() -> None:
    path, items, records, delay = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    provider = SlowProvider(ProviderConfig(name="slow", provider="slow"))
    members = Members((Member(Guard(provider.config, lambda: provider), active=True),))
    members.open(time.monotonic() + 5)
    items.write_text(json.dumps([_sealed(members) for _ in range(records)]))
    # The endpoint will also make a KEK for itself, which counts for nothing here.
    cold = set(provider.asked)
    provider.asked.clear()
    provider.delay = delay

    metrics = Metrics()
    target = Target(
        cluster=CLUSTER,
        accept_clusters=(CLUSTER,),
        epoch=1,
        members=members,
        status_version="v2",
        max_age=30 * 86400,
        unwrap_timeout=10,
        grace=3600,
        probe_interval=60,
    )
    endpoint = Endpoint("main", target, None, metrics)
    listener = Listener("main", metrics)
    listener.serve("main", methods(endpoint, ["v2"]), log_calls=False)
    listener.bind(f"unix:{path}")
    listener.start()
    endpoint.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    print(json.dumps({"unwraps": sum(kek_id in cold for kek_id in provider.asked)}), flush=True)
    listener.stop(1)()
    endpoint.stop()


def _sealed(members: Members) -> dict[str, object]:
    """A seed encrypted under a local KEK of its own, as the load client reads it."""
    deadline = time.monotonic() + 5
    record, kek = mint(members, CLUSTER, {}, time.time, deadline)
    store = KekStore([CLUSTER])
    store.admit_fresh(record, kek)
    seed = os.urandom(32)
    request = v2.EncryptRequest(plaintext=seed, uid="bench").SerializeToString()
    answer = v2.EncryptResponse.FromString(store.write_state(record, record.key_id(1)).encrypt_v2(request))
    return {
        "seed": _text(seed),
        "ciphertext": _text(answer.ciphertext),
        "keyID": answer.key_id,
        "annotations": {name: _text(value) for name, value in answer.annotations.items()},
    }


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    main()
