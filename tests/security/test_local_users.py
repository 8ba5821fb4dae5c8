"""Another user of the machine gets at nothing of an installation: no file, no broker, no database."""

import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runfold.spool import layout
from runfold_log.admin import create_log, open_log
from runfold_log.cluster import KafkaCluster, KafkaSecurity
from runfold_log.errors import LogUnavailable
from runfold_log.topics import LogSettings
from runfold_stack.embedded import embedded_stack
from tests.support.services.local_stack import LocalStack, local_stack
from tests.support.services.other_user import as_other_user

READ_EVERYTHING = """
import os, sys
for directory, _, files in os.walk(sys.argv[1]):
    print("entered", directory)
    for name in files:
        try:
            open(os.path.join(directory, name), "rb").close()
        except OSError:
            continue
        print("read", os.path.join(directory, name))
"""

POSTGRES_SAYS = """
import socket, struct, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
packet = struct.pack(">i", 196608) + b"user\\0runfold\\0database\\0runfold\\0\\0"
client.sendall(struct.pack(">i", len(packet) + 4) + packet)
print(client.recv(4096).decode(errors="replace"))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[LocalStack]:
    """An installation of this file's own, in a directory that every user can reach, once made world-readable by an
    older release.
    """
    place = Path(tempfile.mkdtemp(prefix="runfold-open-"))
    try:
        place.chmod(0o755)
        data = place / "data"
        for directory in (data, data / "kafka", data / "logs"):
            directory.mkdir(mode=0o755)
        (data / "logs" / "kafka.log").touch(0o644)
        with local_stack(data) as running:
            yield running
    finally:
        shutil.rmtree(place)


def test_no_file_of_the_data_directory_can_be_read(running: LocalStack) -> None:
    assert as_other_user(READ_EVERYTHING, str(running.data)).stdout == ""


def test_files_that_are_made_are_for_their_user_alone(running: LocalStack) -> None:
    # SeaweedFS sets the mode of this one itself; the directories above it are closed.
    theirs = set(running.data.rglob("*.vif"))
    open_to_others = [
        f"{path} {stat.filemode(path.lstat().st_mode)}"
        for path in {running.data, *running.data.rglob("*")} - theirs
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]
    assert open_to_others == []


def test_ps_shows_a_short_command_line(running: LocalStack) -> None:
    command = " ".join(psutil.Process(running.stack.pid("kafka")).cmdline())
    assert "kafka.Kafka" in command
    assert len(command) < 500, command


def test_postgres_takes_no_other_user(running: LocalStack) -> None:
    directory = running.postgres.partition("host=")[2].partition("&")[0]
    said = as_other_user(POSTGRES_SAYS, f"{directory}/.s.PGSQL.5432")
    assert "eer authentication failed" in said.stdout or "Permission denied" in said.stderr, said


def test_postgres_listens_on_no_port(running: LocalStack) -> None:
    process = psutil.Process(running.stack.pid("postgres"))
    family = [process, *process.children(recursive=True)]
    inet = [socket.AF_INET, socket.AF_INET6]
    assert [one for part in family for one in part.net_connections("inet") if one.family in inet] == []


def test_a_process_of_the_stack_has_no_secret_in_its_command_line(running: LocalStack) -> None:
    me = psutil.Process(os.getpid())
    commands = [" ".join(child.cmdline()) for child in me.children(recursive=True)]
    assert commands
    for secret in running.secrets():
        assert not [command for command in commands if secret in command]


def test_a_spool_is_for_its_user_alone(tmp_path: Path) -> None:
    root = tmp_path / "state" / "spool"
    before = os.umask(0o022)
    try:
        _, lock = layout.create_spool(root, layout.SpoolInfo("run", "experiment", "", "node", os.getpid(), 0), "writer")
    finally:
        os.umask(before)
    lock.release()
    assert [path for path in [root, *root.rglob("*")] if path.stat().st_mode & 0o077] == []


KAFKA_TAKES = """
import json, socket, struct, sys

def text(one):
    return struct.pack(">h", len(one)) + one.encode()

def asked(client, key, version, body):
    message = struct.pack(">hhi", key, version, 7) + text("stranger") + body
    client.sendall(struct.pack(">i", len(message)) + message)
    size = b""
    while len(size) < 4:
        more = client.recv(4 - len(size))
        if not more:
            return None
        size += more
    answer = b""
    while len(answer) < struct.unpack(">i", size)[0]:
        answer += client.recv(65536)
    return answer[4:]

port, topic = int(sys.argv[1]), sys.argv[2]
requests = {
    "metadata": (3, 1, struct.pack(">i", -1)),
    "produce": (0, 3, struct.pack(">hhi", -1, 1, 1000) + struct.pack(">i", 1) + text(topic)
                + struct.pack(">iii", 1, 0, 0)),
    "create": (19, 2, struct.pack(">i", 1) + text("stranger") + struct.pack(">ihii", 1, 1, 0, 0)
               + struct.pack(">i?", 1000, False)),
    "delete": (20, 1, struct.pack(">i", 1) + text(topic) + struct.pack(">i", 1000)),
    "delete records": (21, 0, struct.pack(">i", 1) + text(topic) + struct.pack(">iiqi", 1, 0, -1, 1000)),
    "fetch": (1, 4, struct.pack(">iiii?i", -1, 100, 1, 1 << 20, False, 1) + text(topic)
              + struct.pack(">iiqi", 1, 0, 0, 1 << 20)),
    "configs": (33, 0, struct.pack(">ib", 1, 2) + text(topic) + struct.pack(">i", 1) + text("retention.ms")
                + text("1") + b"\\0"),
}

def with_login(mechanism, token):
    client = socket.create_connection(("127.0.0.1", port), 10)
    asked(client, 17, 1, text(mechanism))
    answer = asked(client, 36, 0, struct.pack(">i", len(token)) + token)
    return answer is not None and struct.unpack_from(">h", answer)[0] == 0

found = {}
for name, (key, version, body) in requests.items():
    client = socket.create_connection(("127.0.0.1", port), 10)
    try:
        found[name] = asked(client, key, version, body) is not None
    except ConnectionError:
        found[name] = False
for user in ("runfold", "controller", "admin", "ANONYMOUS"):
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        token = f"\\0{user}\\0{user}" if mechanism == "PLAIN" else f"n,,n={user},r=abc"
        try:
            proof = with_login(mechanism, token.encode())
        except ConnectionError:
            proof = False
        found[f"{mechanism} as {user}"] = proof
print(json.dumps(found))
"""


def _taken(port: int) -> set[str]:
    """Which requests of another user got an answer."""
    done = as_other_user(KAFKA_TAKES, str(port), "runfold.runs")
    assert done.returncode == 0, done.stderr
    return {what for what, answered in json.loads(done.stdout).items() if answered}


def test_kafka_answers_nobody_without_the_password(running: LocalStack) -> None:
    # That a challenge is sent to who names the user is the first step of SCRAM, and tells nothing.
    assert _taken(running.port("kafka")) <= {"SCRAM-SHA-512 as runfold"}


def test_the_controller_answers_nobody_without_the_password(running: LocalStack) -> None:
    assert _taken(running.port("kafka_controller")) == set()


async def test_topics_live_on_and_our_own_clients_get_in(running: LocalStack) -> None:
    info = await create_log(running.kafka, "runfold", LogSettings(partitions=1), release="test")
    _taken(running.port("kafka")), _taken(running.port("kafka_controller"))
    assert await open_log(running.kafka, "runfold") == info


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
async def test_a_wrong_password_is_refused(running: LocalStack, mechanism: str) -> None:
    wrong = KafkaSecurity("SASL_PLAINTEXT", mechanism, "runfold", "wrong")
    with pytest.raises(LogUnavailable):
        await open_log(KafkaCluster(running.kafka.brokers, wrong), "runfold")


def test_nothing_that_is_printed_or_logged_has_a_secret_in_it(running: LocalStack) -> None:
    texts = [repr(running.stack.endpoints), str(running.kafka), repr(running.kafka)]
    texts += [path.read_text(errors="replace") for path in (running.data / "logs").iterdir()]
    texts += [path.read_text() for path in running.data.glob("*.json")]
    for secret in running.secrets():
        assert not [text for text in texts if secret in text]


async def test_a_lost_password_is_replaced_and_an_older_directory_gets_one(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, postgres=False, s3=False) as stack:
        before = stack.endpoints.kafka
        assert before is not None
        info = await create_log(before, "kept", LogSettings(partitions=1), release="test")
    (tmp_path / "kafka" / "login.json").unlink()
    async with embedded_stack(tmp_path, postgres=False, s3=False) as stack:
        after = stack.endpoints.kafka
        assert after is not None
        assert after.security.password != before.security.password
        assert await open_log(after, "kept") == info
        with pytest.raises(LogUnavailable):
            await open_log(before, "kept")
