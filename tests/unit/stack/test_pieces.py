"""The parts of the embedded stack that only compute, or touch no more than a file."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runfold_stack.embedded import jars, kafka, postgres
from runfold_stack.embedded.account import reachable
from runfold_stack.embedded.datadir import DataDir, read_running, write_atomically
from runfold_stack.embedded.jars import Pin, format_pins, parse_pins, pinned
from runfold_stack.embedded.kafka import KafkaPlace
from runfold_stack.embedded.kafka_login import KafkaLogin
from runfold_stack.embedded.stack import full_disk_told
from runfold_stack.errors import DiskFull, JarError
from runfold_stack.supervision import supervisor
from runfold_stack.supervision.process import Account, tail
from runfold_stack.supervision.supervisor import Backoff, ending


def place(**changes: object) -> KafkaPlace:
    values: dict[str, object] = {
        "directory": Path("k"),
        "log": Path("k.log"),
        "host": "127.0.0.1",
        "port": 20_001,
        "controller_port": 20_002,
        "durability": "process",
        "login": KafkaLogin("p", "c"),
    }
    return KafkaPlace(**(values | changes))  # type: ignore[arg-type]


def test_every_jar_is_pinned_with_a_checksum_and_nothing_else() -> None:
    pins = pinned()
    assert len(pins) == 46
    assert len({pin.path for pin in pins}) == 46
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for pin in pins)
    assert parse_pins(format_pins(pins)) == tuple(sorted(pins, key=str))


def test_a_jar_lies_where_maven_puts_it() -> None:
    pin = Pin("org.slf4j", "slf4j-api", "1.7.36", "")
    assert pin.path == Path("org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar")


def test_a_jar_that_differs_from_its_pin_is_refused_even_after_it_was_once_verified(tmp_path: Path) -> None:
    content = b"a jar"
    pin = Pin("g", "a", "1", hashlib.sha256(content).hexdigest())
    jar = tmp_path / pin.path
    jar.parent.mkdir(parents=True)
    jar.write_bytes(content)
    marker = tmp_path / "cache" / "marker.json"
    jars.verify([pin], tmp_path, marker)

    jar.write_bytes(b"another jar")
    with pytest.raises(JarError, match="g:a:1"):
        jars.verify([pin], tmp_path, marker)


def test_a_verified_jar_is_not_read_again(tmp_path: Path) -> None:
    pin = Pin("g", "a", "1", hashlib.sha256(b"good").hexdigest())
    jar = tmp_path / pin.path
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"good")
    marker = tmp_path / "marker.json"
    jars.verify([pin], tmp_path, marker)
    stat = jar.stat()
    jar.write_bytes(b"evil")  # same size, and then the same time: only reading would tell
    os.utime(jar, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    jars.verify([pin], tmp_path, marker)


def test_durability_fsync_flushes_every_record() -> None:
    assert "log.flush.interval.messages" not in kafka.server_properties(place())
    assert kafka.server_properties(place(durability="fsync"))["log.flush.interval.messages"] == "1"


def test_the_broker_advertises_the_port_it_listens_on() -> None:
    settings = kafka.server_properties(place(port=20_777))
    assert settings["advertised.listeners"] == "CLIENTS://127.0.0.1:20777"
    assert kafka.server_properties(place(host="::1"))["advertised.listeners"] == "CLIENTS://[::1]:20001"


def test_a_wildcard_host_is_not_advertised() -> None:
    assert not kafka.server_properties(place(host="0.0.0.0"))["advertised.listeners"].startswith("CLIENTS://0.0.0.0")


def test_a_cluster_id_is_no_command_line_option() -> None:
    ids = {kafka.new_cluster_id() for _ in range(500)}
    assert all(len(each) == 22 and not each.startswith("-") for each in ids)


def test_the_socket_path_is_short_however_long_the_data_directory_is(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    first = postgres.socket_directory(deep, tmp_path / ("t" * 100))
    assert len(os.fsencode(first / ".s.PGSQL.5432")) <= 103
    assert first == postgres.socket_directory(deep, tmp_path / ("t" * 100))
    assert first != postgres.socket_directory(tmp_path / "other", tmp_path / ("t" * 100))


def test_only_the_invoking_user_and_the_servers_account_may_connect() -> None:
    assert postgres.ident_conf("ada", None) == 'runfold "ada" runfold\n'
    assert postgres.ident_conf("root", "pg") == 'runfold "root" runfold\nrunfold "pg" runfold\n'
    assert "trust" not in postgres.hba_conf()


def test_a_private_directory_above_makes_a_program_unreachable(tmp_path: Path) -> None:
    stranger = Account("stranger", 54_321, 54_321)
    program = tmp_path / "private" / "program"
    program.parent.mkdir(mode=0o700)
    program.touch(mode=0o755)
    assert not reachable(program, stranger)
    assert reachable(Path("/"), stranger)


def test_pauses_between_restarts_double_up_to_the_cap() -> None:
    backoff = Backoff(first=0.2, cap=5.0)
    assert [backoff.delay(n) for n in (1, 2, 3, 5, 6, 1000)] == pytest.approx([0.2, 0.4, 0.8, 3.2, 5.0, 5.0])


def test_a_nearly_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOW_DISK_BYTES", 0)
    assert supervisor.low_disk(tmp_path) is None
    monkeypatch.setattr(supervisor, "LOW_DISK_BYTES", 1 << 62)
    assert str(tmp_path) in (supervisor.low_disk(tmp_path) or "")


def test_no_space_left_is_told_with_the_place() -> None:
    with pytest.raises(DiskFull, match="where it lies"), full_disk_told("kafka", Path("where it lies")):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_ending_is_told_in_words() -> None:
    assert ending(1) == "ended with exit code 1"
    assert ending(-9) == "was killed by SIGKILL"


def test_the_tail_of_a_log_begins_with_this_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("former start\nthis start\n")
    assert tail(log, len("former start\n")) == "this start"
    assert tail(tmp_path / "absent") == ""


def test_damaged_or_absent_files_count_as_no_memory(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.remembered_ports() == {}
    data.ports_file.write_text("[1")
    data.stack_file.write_text("{}")
    assert data.remembered_ports() == {}
    assert read_running(tmp_path) is None


def test_a_file_that_many_replace_at_once_is_that_of_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "marker.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_atomically(path, str(n) * 1000), range(100)))
    assert path.read_text() in {str(n) * 1000 for n in range(100)}
    assert [one.name for one in tmp_path.iterdir()] == ["marker.json"], "no draft is left"
