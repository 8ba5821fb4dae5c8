"""Another user of the machine gets at nothing of an installation: no file, no broker, no database."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_stack import LocalStack, local_stack
from other_user import as_other_user

from runfold.spool import layout

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
    """An installation of this file's own, in a directory that every user can reach, once made world-readable by an older release."""
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
        _, lock = layout.make(root, layout.About("run", "experiment", "", "node", os.getpid(), 0), "writer")
    finally:
        os.umask(before)
    lock.release()
    assert [path for path in [root, *root.rglob("*")] if path.stat().st_mode & 0o077] == []
