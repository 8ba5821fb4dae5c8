"""The parts of the SDK that only compute, and what an import costs and shows."""

from __future__ import annotations

import inspect
import random
import re
import subprocess
import sys
from array import array
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runfold
from runfold.names import ADJECTIVES, ANIMALS, run_name
from runfold.pipeline.rows import RowReader
from runfold.settings import DEFAULT_URI, Settings
from runfold.tracking_uri import KafkaTarget, api_of, kafka_target


class Scalar:
    """As PyTorch's: a number behind item()."""

    def __init__(self, held: object) -> None:
        self.held = held

    def item(self) -> object:
        if isinstance(self.held, Exception):
            raise self.held
        return self.held


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (True, 1.0),
        (-0.5, -0.5),
        (Fraction(1, 4), 0.25),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(2), 2.0),
        (np.longdouble(2), 2.0),
        (np.int64(-3), -3.0),
        (np.uint8(3), 3.0),
        (np.bool_(True), 1.0),
        (np.array(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (Scalar(0.25), 0.25),
        (Scalar(True), 1.0),
    ],
)
def test_numbers_of_many_kinds_become_doubles(value: object, number: float) -> None:
    reader = RowReader()
    # Twice: the second time the type may be known.
    for _ in range(2):
        keys, values = reader.read({"a": value, "b": 2})
        assert keys.names == ("a", "b")
        assert values == array("d", [number, 2.0])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("0.5", "str"),
        (1j, "complex"),
        ([1.0], "list"),
        (Decimal(1), "decimal.Decimal"),
        (np.zeros(2), "numpy.ndarray"),
        (np.complex64(1), "numpy.complex64"),
        (np.datetime64("2020-01-01"), "numpy.datetime64"),
        (np.str_("a"), "numpy.str_"),
        (Scalar("x"), "Scalar"),
        (Scalar(RuntimeError("two elements")), "two elements"),
    ],
)
def test_anything_else_is_an_error_with_key_and_type(value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"'some/key'.*{re.escape(kind)}"):
        RowReader().read({"fine": 1, "some": {"key": value}})


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400), Scalar(10**400)])
def test_a_number_beyond_a_double_is_an_error_with_its_key(value: object) -> None:
    with pytest.raises(ValueError, match=r"'big'.*does not fit into a 64-bit float"):
        RowReader().read({"fine": 1, "big": value})


def test_nested_dicts_are_joined() -> None:
    keys, values = RowReader().read({"a": {"b": {"c": 1}, "d": 2}, "e": 3, "f": {}})
    assert keys.names == ("a/b/c", "a/d", "e")
    assert list(values) == [1, 2, 3]


@pytest.mark.parametrize(
    ("metrics", "error", "says"),
    [
        ({"": 1}, ValueError, "empty"),
        ({"k" * 251: 1}, ValueError, "251 characters"),
        ({"a\0": 1}, ValueError, "NUL"),
        ({"a\ud800": 1}, ValueError, "surrogate"),
        ({1: 1}, TypeError, "name 1 must be a str, not int"),
        ({"a": {None: 1}}, TypeError, "NoneType"),
        ({"a/b": 1, "a": {"b": 2}}, ValueError, "'a/b' is given twice"),
        ([("a", 1)], TypeError, "a dict"),
        (0.5, TypeError, "a dict"),
    ],
)
def test_keys_are_checked(metrics: Any, error: type[Exception], says: str) -> None:
    reader = RowReader()
    for _ in range(2):
        with pytest.raises(error, match=says):
            reader.read(metrics)
    assert reader.read({"k" * 250: 1})[0].bytes == 255


def test_a_dict_that_changes_while_it_is_read_is_an_error_and_no_row_without_its_keys() -> None:
    class Changing(dict[str, float]):
        def values(self) -> Any:
            yield from super().values()
            yield 0.5

    with pytest.raises(RuntimeError, match="changed while it was read"):
        RowReader().read(Changing(a=1.0))


def test_nesting_without_end_is_an_error() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(ValueError, match="deeper"):
        RowReader().read(endless)


def test_equal_keys_are_one_object_and_the_cache_is_bounded() -> None:
    reader = RowReader()
    assert reader.read({"a": 1, "b": 2})[0] is reader.read({"a": 3, "b": 4})[0]
    for n in range(300):
        reader.read({f"{n}/{k}": k for k in range(1000)})
    assert sum(map(len, reader._known)) <= 202_000


def test_names_are_readable_and_follow_their_source_of_chance() -> None:
    rng = random.Random(1)
    names = [run_name(rng) for _ in range(2000)]
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    assert len(set(names)) > 1990
    assert names[:5] == [run_name(r) for r in [random.Random(1)] for _ in range(5)]
    for words in (ADJECTIVES, ANIMALS):
        assert len(set(words)) == len(words) > 120
    assert max(map(len, ADJECTIVES)) + max(map(len, ANIMALS)) + len("--999") <= 20


def test_settings_come_from_argument_then_variable_then_default() -> None:
    assert Settings.load(environ={}).uri == DEFAULT_URI
    assert Settings.load(environ={"RUNFOLD_TRACKING_URI": "https://b/x/"}).uri == "https://b/x"
    assert Settings.load("http://a", environ={"RUNFOLD_TRACKING_URI": "http://b"}).uri == "http://a"
    assert Settings.load(environ={"RUNFOLD_BUFFER_MB": "0.5"}).buffer_bytes == 512 * 1024
    for name in ("RUNFOLD_BUFFER_MB", "RUNFOLD_SPOOL_MB", "RUNFOLD_FINISH_TIMEOUT"):
        for text in ("-1", "0", "many", "nan"):
            with pytest.raises(runfold.SdkError, match=f"{name}='{text}'"):
                Settings.load(environ={name: text})


def test_the_spool_lies_where_the_user_s_state_lies_unless_it_is_named() -> None:
    assert Settings.load(environ={"XDG_STATE_HOME": "/s"}).spool_dir == Path("/s/runfold/spool")
    assert Settings.load(environ={}).spool_dir == Path("~/.local/state/runfold/spool").expanduser()
    assert Settings.load(environ={"RUNFOLD_SPOOL_DIR": "/x", "XDG_STATE_HOME": "/s"}).spool_dir == Path("/x")


def test_settings_with_few_values_name_them() -> None:
    assert Settings.load(environ={"RUNFOLD_MODE": "offline"}).offline
    assert not Settings.load(mode="online", environ={"RUNFOLD_MODE": "offline"}).offline
    assert Settings.load(environ={"RUNFOLD_SPOOL_FULL": "block"}).spool_blocks
    for name in ("RUNFOLD_MODE", "RUNFOLD_SPOOL_FULL", "RUNFOLD_SPOOL_FSYNC", "RUNFOLD_REQUIRE_SERVER"):
        with pytest.raises(runfold.SdkError, match=f"{name}='perhaps' must be .* or "):
            Settings.load(environ={name: "perhaps"})


def test_a_kafka_address_names_brokers_namespace_and_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka_target("kafka://a:1,b:2/mine?api=http://c:5/") == KafkaTarget("a:1,b:2", "mine", "http://c:5")
    monkeypatch.setenv("RUNFOLD_API_URI", "https://d")
    assert kafka_target("kafka://a:1") == KafkaTarget("a:1", "runfold", "https://d")
    assert api_of("kafka://a:1") == "https://d"
    assert api_of("http://e") == "http://e"


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("kafka://a:1", r"needs \?api=.*RUNFOLD_API_URI"),
        ("kafka://a:1?api=c:5", r"needs \?api="),
        ("kafka://a:1/Big?api=http://c", "namespace 'Big'"),
        ("kafka://a:1?api=http://c&acks=0", "api= is the only"),
        ("kafka://me:secret@a:1?api=http://c", "must not contain a user name or password"),
    ],
)
def test_a_kafka_address_that_can_not_be_used_says_why(uri: str, says: str) -> None:
    with pytest.raises(runfold.SdkError, match=says):
        kafka_target(uri)


def test_the_public_surface() -> None:
    assert runfold.__all__ == [
        "NotConnected",
        "Run",
        "RunfoldError",
        "SdkError",
        "ServerRefused",
        "__version__",
        "fork",
        "promote",
        "run",
    ]
    assert re.match(r"\d+\.\d+", runfold.__version__)
    assert list(inspect.signature(runfold.run).parameters) == [
        "experiment", "params", "name", "tags", "tracking_uri", "mode", "run_id", "start_step", "on_rejection",
    ]  # fmt: skip
    assert {name for name in dir(runfold.Run) if not name.startswith("_")} == {
        "experiment_id", "finish", "flush", "id", "log", "log_params", "log_rows", "log_series", "refused", "rewind", "save", "set_tags", "spool", "url",
    }  # fmt: skip
    for kind in (runfold.NotConnected, runfold.ServerRefused):
        assert issubclass(kind, runfold.SdkError)


def test_the_import_is_light() -> None:
    heavy = "aiokafka asyncpg asyncio fastavro httpx2 numpy pydantic structlog ssl"
    code = f"import sys, runfold; print(*(name for name in {heavy.split()} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_run_needs_no_numpy_and_no_kafka(server: Any) -> None:
    code = (
        "import sys, runfold\n"
        "with runfold.run() as run: run.log({'a': 1})\n"
        "print(*(name for name in ('aiokafka', 'numpy', 'structlog') if name in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
    assert len(server.rows()) == 1
