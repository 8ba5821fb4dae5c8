"""The embedded broker's one user: its password, and the broker's settings for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import struct
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_stack.errors import StackError

from .datadir import DataDir, make_private, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

USER, CONTROLLER = "runfold", "controller"
MECHANISM = "SCRAM-SHA-512"
LOGIN_FILE, VARIABLES_FILE = "login.json", "client.env"
ITERATIONS = 4096  # the least that Kafka takes; they slow down guessing, and nobody guesses 256 random bits

_SCRAM_SHA_512 = 2
_SASL_HANDSHAKE, _SASL_AUTHENTICATE, _ALTER_USER_SCRAM_CREDENTIALS = (17, 1), (36, 0), (51, 0)


@dataclass(frozen=True)
class KafkaLogin:
    """Passwords of the clients' user and of the controller's."""

    password: str = field(repr=False)
    controller_password: str = field(repr=False)
    username: str = USER

    def cluster(self, brokers: str) -> KafkaCluster:
        """The brokers, as this user."""
        return KafkaCluster(brokers, KafkaSecurity("SASL_PLAINTEXT", MECHANISM, self.username, self.password))


def login_in(directory: Path) -> KafkaLogin | None:
    """The login that was generated for the broker of this directory; None before its first start."""
    path = directory / LOGIN_FILE
    try:
        return KafkaLogin(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StackError(
            f"{path}, which holds the password of the embedded Kafka, is damaged: {type(error).__name__}. "
            "Remove it and a new one is made at the next start."
        ) from None


def make_login(directory: Path) -> KafkaLogin:
    """The broker's login, generated at its first start and kept where only this user can read it, also as variables to
    source.
    """
    make_private(directory)
    login = login_in(directory)
    if login is None:
        login = KafkaLogin(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        write_atomically(directory / LOGIN_FILE, json.dumps(asdict(login), indent=2) + "\n")
    variables = login.cluster("").security.variables()
    lines = [f"export {name}={value}\n" for name, value in variables.items()]
    write_atomically(directory / VARIABLES_FILE, "".join(lines))
    return login


def login_variables(data_dir: Path) -> Path:
    """The file that a shell of this user sources before a program talks to the broker of this data directory."""
    return DataDir(data_dir.expanduser().absolute()).kafka / VARIABLES_FILE


async def add_user(login: KafkaLogin, host: str, controller_port: int) -> None:
    """Tells the controller of the clients' user, as the controller's.

    The password itself is not sent, only what SCRAM stores of it.

    Not by an option of the first formatting: directories that were formatted by an older release would stay without,
    and a password that was lost could not be replaced. StackError if the controller refuses; OSError and EOFError if it
    does not answer.
    """
    reader, writer = await asyncio.open_connection(host, controller_port)
    try:
        await _ask(reader, writer, _SASL_HANDSHAKE, _text("PLAIN"))
        plain = f"\0{CONTROLLER}\0{login.controller_password}".encode()
        answer = await _ask(reader, writer, _SASL_AUTHENTICATE, struct.pack(">i", len(plain)) + plain)
        _check(struct.unpack_from(">h", answer)[0], "does not take the password of its own node")
        answer = await _ask(reader, writer, _ALTER_USER_SCRAM_CREDENTIALS, _credential(login), flexible=True)
        # Tags of the header, throttle time, one result: the user's name, then the code.
        _check(struct.unpack_from(">h", answer, 1 + 4 + 1 + 1 + len(login.username))[0], "does not take its user")
    finally:
        writer.close()
        await writer.wait_closed()


def _credential(login: KafkaLogin) -> bytes:
    """No deletion, one addition."""
    salt = os.urandom(32)
    salted = hashlib.pbkdf2_hmac("sha512", login.password.encode(), salt, ITERATIONS)
    name = _compact(login.username.encode())
    addition = name + struct.pack(">bi", _SCRAM_SHA_512, ITERATIONS) + _compact(salt) + _compact(salted) + b"\0"
    return b"\x01" + b"\x02" + addition + b"\0"


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: tuple[int, int],
    body: bytes,
    *,
    flexible: bool = False,
) -> bytes:
    """One request of Kafka's protocol; the answer without its correlation id."""
    message = struct.pack(">hhi", *request, 0) + _text("runfold") + (b"\0" if flexible else b"") + body
    writer.write(struct.pack(">i", len(message)) + message)
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return (await reader.readexactly(size))[4:]


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _compact(content: bytes) -> bytes:
    """Bytes, or a text, of fewer than 127 bytes as newer requests write them."""
    return bytes([len(content) + 1]) + content


def _check(code: int, problem: str) -> None:
    if code:
        raise StackError(f"The embedded Kafka's controller {problem} (error {code} of Kafka's protocol).")
