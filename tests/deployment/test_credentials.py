"""Certificates in a real TLS handshake, keys as Flower reads them."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest
from credentials import make_node_key, make_server_credentials
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)


def shake_hands(server: Path, authority: Path, name: str) -> str:
    """Connect to a server with these files by a name; the version of TLS."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(server / "server.pem", server / "server.key")
    ours = ssl.create_default_context(cafile=str(authority))
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def answer() -> None:
            raw, _ = listening.accept()
            with raw:
                try:
                    with theirs.wrap_socket(raw, server_side=True) as connection:
                        connection.recv(1)
                except (ssl.SSLError, ConnectionError):
                    return  # the client's side tells

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                socket.create_connection(listening.getsockname()) as raw,
                ours.wrap_socket(raw, server_hostname=name) as connection,
            ):
                return str(connection.version())
        finally:
            thread.join(10)


def test_the_authority_vouches_for_every_name_and_address_and_for_no_other(tmp_path: Path) -> None:
    make_server_credentials(tmp_path / "a", ["127.0.0.1", "federation.example"], days=2)
    make_server_credentials(tmp_path / "b", ["127.0.0.1"], days=2)
    own = tmp_path / "a" / "ca.crt"

    for name in ("127.0.0.1", "federation.example"):
        assert shake_hands(tmp_path / "a", own, name) in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(tmp_path / "a", own, "elsewhere.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        shake_hands(tmp_path / "a", own, "127.0.0.2")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        shake_hands(tmp_path / "b", own, "127.0.0.1")


def test_a_nodes_key_is_a_pair_on_the_curve_that_flower_wants(tmp_path: Path) -> None:
    make_node_key(tmp_path)
    private = load_ssh_private_key((tmp_path / "key").read_bytes(), password=None)
    public = load_ssh_public_key((tmp_path / "key.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert private.curve.name == "secp384r1"
    assert private.public_key().public_numbers() == public.public_numbers()


def test_secrets_are_the_owners_alone_and_nothing_is_overwritten(tmp_path: Path) -> None:
    make_server_credentials(tmp_path, ["localhost"], days=1)
    make_node_key(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "ca.key", "server.key", "key",
    }  # fmt: skip
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError):
        make_server_credentials(tmp_path, ["localhost"], days=1)
    with pytest.raises(FileExistsError):
        make_node_key(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("hosts", "days"), [([], 1), (["localhost"], 0)])
def test_no_host_and_no_days_are_refused(tmp_path: Path, hosts: list[str], days: int) -> None:
    with pytest.raises(ValueError, match="need one host or more and days >= 1"):
        make_server_credentials(tmp_path / "new", hosts, days)
    assert not (tmp_path / "new").exists()
