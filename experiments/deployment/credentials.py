"""Certificates for TLS and keys for SuperNodes, made on the operator's machine.

A certificate authority of one's own signs the SuperLink's certificate; SuperNodes trust that
authority alone. Every SuperNode has a key (ECDSA, curve P-384) by which the SuperLink knows it.
Nothing that exists is ever overwritten: a new authority would lock out all devices. The package
``cryptography`` comes with Flower, which needs it itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY, CERTIFICATE, KEY = "ca.crt", "server.pem", "server.key"


def make_server_credentials(folder: Path, hosts: Sequence[str], days: int) -> None:
    """A certificate authority, and a certificate for the SuperLink at these names or addresses.

    Writes ``ca.crt`` (for every SuperNode and for ``flwr``), ``ca.key`` (keep it), ``server.pem``
    and ``server.key`` (for the SuperLink).

    Raises
    ------
    ValueError
        If no host is given or the days are below 1.
    FileExistsError
        If one of the files exists.
    """
    if not hosts or days < 1:
        raise ValueError(f"need one host or more and days >= 1, got {list(hosts)} and {days}")
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, server_key = _key(ec.SECP256R1()), _key(ec.SECP256R1())
    authority = _authority(authority_key, days)
    _write(folder / AUTHORITY, _pem(authority))
    _write(folder / "ca.key", _private(authority_key), secret=True)
    _write(folder / KEY, _private(server_key), secret=True)
    _write(folder / CERTIFICATE, _pem(_server(server_key, hosts, days, authority, authority_key)))


def make_node_key(folder: Path) -> None:
    """A SuperNode's private key ``key`` and its public half ``key.pub``, in OpenSSH's format.

    Raises
    ------
    FileExistsError
        If there is one already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(ec.SECP384R1())
    _write(folder / "key", _private(key, serialization.PrivateFormat.OpenSSH), secret=True)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    _write(folder / "key.pub", public + b"\n")


def _key(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve)


def _authority(key: ec.EllipticCurvePrivateKey, days: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federation authority")])
    usage = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    days: int,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    return (
        _builder(name, authority.subject, key, days)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # devices' clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(
    key: ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, data: bytes, *, secret: bool = False) -> None:
    mode = 0o600 if secret else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
