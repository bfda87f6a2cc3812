"""KS-C050 to 069: clients that send what no good client sends, or do what no good client does."""

from __future__ import annotations

import contextlib
import os
import stat

from keystead._proto.v2 import api_pb2 as v2
from keystead.operate.self_test import grpc_address
from keystead.testing.plugin_rules.book import (
    BOOK,
    PluginCase,
    broken,
    must_be_refused,
    new_seed,
    opens,
    plaintext_of,
    sealed_of,
    still_serves,
)
from keystead.testing.plugin_rules.client import V1, V2, raw_connection
from keystead.testing.rules import Broken, NotApplicable, Tier

HUGE = 4_000_000
"""Just below the 4 MiB that gRPC takes by default."""

_ALIVE = "Every process that may use the socket could end the plugin, and with it reads and writes of the API server."
_CAREFUL = "Parse strictly, check sizes before anything else, and catch what a handler raises."


@BOOK.rule(50, Tier.SILVER, "Fields of four megabytes are refused in time.", why=_ALIVE, fix=_CAREFUL)
def huge_fields(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    sealed = sealed_of(client, seed)
    for what, changed in {
        "a ciphertext of 4 MB": sealed.but(ciphertext=bytes(HUGE)),
        "a key_id of 4 MB": sealed.but(key_id="k" * HUGE),
        "an annotation of 4 MB": sealed.but(annotations={**sealed.annotations, "a.example.com": bytes(HUGE)}),
    }.items():
        must_be_refused(client, changed, seed, what)
    reply = client.encrypt(bytes(HUGE))
    if reply.answer is not None or reply.code.name == "DEADLINE_EXCEEDED":
        broken("Encrypt of 4 MB to be refused in time", reply)
    still_serves(case, "requests of 4 MB")


@BOOK.rule(51, Tier.BRONZE, "Empty requests are refused, and end nothing.", why=_ALIVE, fix=_CAREFUL)
def empty_requests(case: PluginCase) -> None:
    client = case.client()
    reply = client.call(f"{V2}/Decrypt", b"")
    if reply.answer is not None or reply.code.name == "DEADLINE_EXCEEDED":
        broken("an empty Decrypt to be refused", reply)
    client.call(f"{V2}/Encrypt", b"")  # refused or not: kube-apiserver never sends it
    still_serves(case, "an empty Decrypt")


@BOOK.rule(52, Tier.SILVER, "Bytes that are no request are refused, and end nothing.", why=_ALIVE, fix=_CAREFUL)
def malformed_requests(case: PluginCase) -> None:
    client = case.client()
    for body in (b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab", os.urandom(64), b"\x08" + b"\x80" * 20):
        for method in ("Encrypt", "Decrypt"):
            reply = client.call(f"{V2}/{method}", body)
            if reply.answer is not None or reply.code.name == "DEADLINE_EXCEEDED":
                broken(f"{method} of bytes that are no request to be refused", reply)
    still_serves(case, "bytes that are no request")


@BOOK.rule(
    53, Tier.BRONZE, "A Decrypt that is cut short anywhere never gives another plaintext.", why=_ALIVE, fix=_CAREFUL
)
def truncated_requests(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    whole = sealed_of(client, seed).request("")
    step = max(1, len(whole) // 200)
    for size in range(0, len(whole), step):
        reply = client.call(f"{V2}/Decrypt", whole[:size])
        if reply.answer is not None and plaintext_of(reply) != seed:
            broken(f"the first {size} of {len(whole)} bytes of a Decrypt to be refused", reply)
    still_serves(case, "requests that are cut short")


@BOOK.rule(
    54,
    Tier.SILVER,
    "Fields that the plugin does not know are passed over.",
    why="A later Kubernetes may add a field. A plugin that refuses it stops the upgrade.",
    fix="Parse as Protocol Buffers demand: unknown fields are skipped.",
)
def unknown_fields(case: PluginCase) -> None:
    client, seed = case.client(), new_seed()
    extra = b"\xfa\x07\x03abc"  # field 127, of three bytes
    reply = client.call(f"{V2}/Status", extra)
    if reply.refused:
        broken("Status with an unknown field to answer", reply)
    reply = client.call(f"{V2}/Encrypt", v2.EncryptRequest(plaintext=seed, uid="u").SerializeToString() + extra)
    if reply.refused:
        broken("Encrypt with an unknown field to answer", reply)
    reply = client.call(f"{V2}/Decrypt", sealed_of(client, seed).request() + extra)
    if reply.answer is None or plaintext_of(reply) != seed:
        broken("Decrypt with an unknown field to return the seed", reply)


@BOOK.rule(
    55,
    Tier.SILVER,
    "Unknown methods and services are UNIMPLEMENTED.",
    why="It is how a client finds out what a plugin speaks.",
    fix="Leave it to the gRPC library.",
    api="",
)
def unknown_methods(case: PluginCase) -> None:
    client = case.client()
    for method in (f"{V2}/Destroy", f"{V1}/Destroy", "/v3.KeyManagementService/Status", "/x/y"):
        reply = client.call(method, b"")
        if reply.code.name != "UNIMPLEMENTED":
            broken(f"{method} to be UNIMPLEMENTED", reply)


@BOOK.rule(
    60,
    Tier.BRONZE,
    "A client that sends the socket's path as its authority is served.",
    why="Kubernetes before 1.32 does, with v2; every one does with v1beta1. Strict HTTP/2 libraries refuse it.",
    fix="Let the server accept any :authority.",
)
def old_authority(case: PluginCase) -> None:
    path = grpc_address(case.endpoint).partition(":")[2]
    client, seed = case.client(authority=path.replace("/", "%2F")), new_seed()
    opens(client, sealed_of(client, seed), seed)


@BOOK.rule(61, Tier.SILVER, "Connections that speak no gRPC disturb nobody.", why=_ALIVE, fix=_CAREFUL, api="")
def garbage_connections(case: PluginCase) -> None:
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100)):
        for _ in range(10):
            with contextlib.suppress(OSError), raw_connection(case.endpoint, 2) as made:
                made.sendall(data)
    still_serves(case, "connections that speak no gRPC")


@BOOK.rule(62, Tier.SILVER, "200 connections that say nothing disturb nobody.", why=_ALIVE, fix=_CAREFUL, api="")
def silent_connections(case: PluginCase) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            with contextlib.suppress(OSError):
                stack.enter_context(raw_connection(case.endpoint, 2))
        still_serves(case, "200 silent connections")
    still_serves(case, "200 silent connections that were closed")


@BOOK.rule(63, Tier.SILVER, "300 calls that are cancelled at once disturb nobody.", why=_ALIVE, fix=_CAREFUL)
def cancelled_calls(case: PluginCase) -> None:
    client = case.client()
    sealed = sealed_of(client, new_seed())
    for number in range(300):
        call = client.start(f"{V2}/{'Decrypt' if number % 2 else 'Status'}", sealed.request() if number % 2 else b"")
        call.cancel()
    still_serves(case, "300 cancelled calls")


@BOOK.rule(
    64,
    Tier.SILVER,
    "200 connections, one after the other, are each served.",
    why="Each reload of an API server's encryption configuration makes new connections, for years.",
    fix="Free what belongs to a connection when it ends.",
    api="",
)
def many_connections(case: PluginCase) -> None:
    for number in range(200):
        reply = case.probe()
        if reply.refused:
            broken(f"connection {number + 1} to be served", reply)


@BOOK.rule(
    65,
    Tier.SILVER,
    "The socket cannot be used by every user of the node.",
    why="Whoever can connect can have everything decrypted: the protocol knows no credentials.",
    fix="Give the socket the mode 0600, or 0660 with a group for the API server; avoid abstract sockets.",
    api="",
)
def socket_mode(case: PluginCase) -> None:
    address = grpc_address(case.endpoint)
    if address.startswith("unix-abstract:"):
        raise NotApplicable("an abstract socket has no mode: every user of the node can connect")
    mode = stat.S_IMODE(os.stat(address[5:]).st_mode)  # noqa: PTH116  a socket, not a file to open
    if mode & stat.S_IWOTH:
        raise Broken("a mode without write for others", f"{mode:04o}")
