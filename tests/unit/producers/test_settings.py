"""The SDK's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

import runfold
from runfold.settings import DEFAULT_URI, Settings


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
