"""Reads a running etcd by its one call Range, page by page at one revision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from keystead._core import Tally
from keystead._proto.etcd import kv_pb2 as kv
from keystead.operate.store import Entry, Progress, Unreadable

_PAGE_BYTES = 4 << 20
"""What a page should have. Pages of small objects are as long as that allows, so that memory stays flat."""
_LARGEST_PAGE = 64 << 20
"""What is taken at all: a page of small objects may be followed by one of large ones."""
_FIRST_PAGE = 200
_MOST_KEYS = 5000
_CALL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for TLS to etcd, as etcdctl takes them."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class EtcdStore:
    """The objects below a prefix of a running etcd. It writes nothing."""

    def __init__(self, url: str, prefix: str, tls: Tls) -> None:
        """Take `https://host:port`, or `http://` for one that listens on loopback only. Raises `ValueError`."""
        self.name = url
        self.warnings: tuple[str, ...] = ()
        self.revision = 0
        self._prefix = prefix.encode()
        self._address, self._secure = _address(url)
        if not self._secure and tls != Tls():
            raise ValueError(f"{url} is not https, so certificates have no use")
        if (tls.certificate is None) != (tls.key is None):
            raise ValueError("a certificate and its key belong together")
        self._tls = tls

    def entries(self, progress: Progress) -> Iterator[Entry]:
        done = 0
        for page in self._pages():
            for one in page.kvs:
                yield Entry(one.key, one.value, one.mod_revision, one.create_revision)
            done += len(page.kvs)
            progress("read", done / max(1, done, page.count))

    def tally(self, prefix: str, progress: Progress) -> Tally:
        tally = Tally(prefix.encode())
        for entry in self.entries(progress):
            tally.add(entry.key, entry.value, entry.mod_revision)
        return tally

    def _pages(self) -> Iterator[kv.RangeResponse]:
        with self._channel() as channel:
            call: grpc.UnaryUnaryMultiCallable[kv.RangeRequest, kv.RangeResponse] = channel.unary_unary(
                "/etcdserverpb.KV/Range",
                request_serializer=kv.RangeRequest.SerializeToString,
                response_deserializer=kv.RangeResponse.FromString,
            )
            start, limit, total = self._prefix, _FIRST_PAGE, 0
            while True:
                request = kv.RangeRequest(
                    key=start, range_end=_end_of(self._prefix), limit=limit, revision=self.revision, serializable=True
                )
                try:
                    page = call(request, timeout=_CALL_SECONDS)
                except grpc.RpcError as exc:
                    if exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and limit > 1:
                        limit = max(1, limit // 8)
                        continue
                    raise self._unreadable(exc) from exc
                # The first page decides the revision of all others, and counts what is to come.
                self.revision = self.revision or page.header.revision
                total = total or page.count
                page.count = total
                yield page
                if not page.more or not page.kvs:
                    return
                start = page.kvs[-1].key + b"\0"
                size = page.ByteSize() // len(page.kvs)
                limit = max(1, min(2 * limit, _MOST_KEYS, _PAGE_BYTES // max(1, size)))

    def _channel(self) -> grpc.Channel:
        options = [("grpc.max_receive_message_length", _LARGEST_PAGE), ("grpc.enable_retries", 0)]
        if not self._secure:
            return grpc.insecure_channel(self._address, options)
        files = (self._tls.ca, self._tls.key, self._tls.certificate)
        try:
            contents = [None if path is None else path.read_bytes() for path in files]
        except OSError as exc:
            raise Unreadable(f"{exc.filename}: {exc.strerror}") from exc
        return grpc.secure_channel(self._address, grpc.ssl_channel_credentials(*contents), options)

    def _unreadable(self, exc: grpc.RpcError) -> Unreadable:
        code, details = exc.code(), exc.details() or ""
        if code is grpc.StatusCode.OUT_OF_RANGE:
            details += ": etcd was compacted while it was read. Run this closer to it, or take a snapshot"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            details = f"no answer within {_CALL_SECONDS:g} s"
        return Unreadable(f"{self.name}: {code.name}: {details}")


def _address(url: str) -> tuple[str, bool]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        raise ValueError(f"{url} is not of the form https://host:2379")
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), parts.scheme == "https"


def _end_of(prefix: bytes) -> bytes:
    """Return the first key after all that begin with a prefix; a zero byte, for etcd, is the end of everything."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"
