"""Certificates that live for one run, by trustme."""

import datetime as dt
import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_VALID = dt.timedelta(days=30)


class Authority:
    """A certificate authority in a folder: `ca.crt`, and for each server `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path) -> None:
        """Its own key is kept in memory alone."""
        self._folder = folder
        self._ca = trustme.CA()
        self.certificate_file = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(self.certificate_file)

    def issue_server(self, name: str, hosts: list[str]) -> tuple[Path, Path]:
        """Issue a serving certificate for host names and IP addresses; return the certificate's and key's files."""
        issued = self._ca.issue_cert(*hosts, not_after=dt.datetime.now(dt.UTC) + _VALID)
        key_file, certificate_file = self._folder / f"{name}.key", self._folder / f"{name}.crt"
        key_file.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key_file)
        issued.cert_chain_pems[0].write_to_path(certificate_file)
        return certificate_file, key_file


def server_context(host: str) -> ssl.SSLContext:
    """A TLS context with a certificate for this host that no one else can trust: its authority is forgotten."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(host).configure_cert(context)
    return context


def write_signing_key(key_file: Path, public_file: Path) -> None:
    """Write a pair of keys for ServiceAccount tokens; trustme makes keys only with a certificate around them."""
    key = generate_private_key(SECP256R1())
    key_file.touch(mode=0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
