"""Pinned JARs of the embedded Kafka."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from runfold_stack.embedded import jars
from runfold_stack.embedded.jars import Pin, format_pins, parse_pins, pinned
from runfold_stack.errors import JarError


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
