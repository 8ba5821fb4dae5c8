"""What the parts of the S3 store show each other, so that nobody else gets in behind its S3 port.

SeaweedFS is made for a network of its own: its master, volume server, filer and administration ask for nothing. Here
every inner port, HTTP and gRPC, wants a certificate of the caller, and there is one, which only this user can read. It
and the signing keys are created before every start, since nothing that lasts depends on them: no expiry, no file that
a restart could find damaged.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING

from runfold_stack.errors import MissingPackage

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_FILE = "security.toml"
"""SeaweedFS looks for it in its working directory first."""
CERTIFICATE_FILE = "certificate.pem"
KEY_FILE = "certificate.key"
_GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client", "mq", "msg_broker", "msg_agent")
_HTTPS = ("master", "volume", "filer", "admin", "client")
_SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_NO_EXPIRY = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280's date for a certificate without a well-defined end."""


def write_security(directory: Path) -> None:
    """Make a certificate and signing keys, and the store's file that names them."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(
        PermissionError
    ):  # a directory of another owner, as RUNFOLD_DATA_DIR may be; the files are private anyway
        directory.chmod(0o700)
    certificate, key = _certificate()
    _write_private(directory / CERTIFICATE_FILE, certificate)
    _write_private(directory / KEY_FILE, key)
    _write_private(directory / CONFIG_FILE, _config(directory).encode())


def client_context(directory: Path) -> ssl.SSLContext:
    """A TLS context with which a program of this user may ask the inner ports."""
    context = ssl.create_default_context(cafile=str(directory / CERTIFICATE_FILE))
    context.check_hostname = False  # the certificate is known itself, by no name
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
    return context


def _config(directory: Path) -> str:
    certificate, key = _quoted(directory / CERTIFICATE_FILE), _quoted(directory / KEY_FILE)
    # Its authority is the certificate itself: nobody, not even its holder, can make a second one that passes.
    shown = f"ca = {certificate}\ncert = {certificate}\nkey = {key}\n"
    sections = [f'[{name}]\nkey = "{secrets.token_hex(32)}"\nexpires_after_seconds = 10\n' for name in _SIGNED]
    sections.append(f"[grpc]\nca = {certificate}\n")
    sections += [f"[grpc.{part}]\ncert = {certificate}\nkey = {key}\n" for part in _GRPC]
    sections += [f"[https.{part}]\n{'enabled = true' if part == 'client' else ''}\n{shown}" for part in _HTTPS]
    return "\n".join(sections)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _certificate() -> tuple[bytes, bytes]:
    """A certificate signed by itself and its private key, as PEM."""
    try:
        # Imported on first use: the extra may be missing.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    except ImportError as error:
        raise MissingPackage("s3", "cryptography") from error

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runfold embedded s3")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FIRST_DAY)
        .not_valid_after(_NO_EXPIRY)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that was never readable for anyone else, not even for a moment."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    draft.replace(path)
