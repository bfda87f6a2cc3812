"""Certificates for the fault proxy: a good one, an expired one, and one of a CA that nobody trusts."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from keystead.testing.rules import NotShown

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ModuleNotFoundError as exc:
    raise NotShown("TLS faults need the package cryptography: install keystead[testing]") from exc

ADDRESS = "127.0.0.1"
_DAY = datetime.timedelta(days=1)


class Certificates:
    """Two CAs in a directory; `ca_file` is the trusted one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca_file = directory / "ca.crt"
        self._trusted = _Authority("keystead conformance kit")
        self._untrusted = _Authority("somebody else")
        self.ca_file.write_bytes(self._trusted.certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, kind: str) -> ssl.SSLContext:
        """Return a server's side of TLS: `good`, `expired` or `untrusted`."""
        authority = self._untrusted if kind == "untrusted" else self._trusted
        ends = -_DAY if kind == "expired" else _DAY
        chain = self._directory / f"{kind}.pem"
        chain.write_bytes(authority.issue(ends))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


class _Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            _builder(self._name, self._name, self._key, _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, ends: datetime.timedelta) -> bytes:
        """Return a certificate for the loopback address, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.IPAddress(ipaddress.ip_address(ADDRESS))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ADDRESS)])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(subject, self._name, key, ends)
            .add_extension(x509.SubjectAlternativeName([address, x509.DNSName("localhost")]), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + private


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(now + ends)
    )
