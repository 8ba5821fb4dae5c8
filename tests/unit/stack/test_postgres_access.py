"""Who reaches the embedded Postgres."""

from __future__ import annotations

import os
from pathlib import Path

from runfold_stack.embedded import postgres
from runfold_stack.embedded.account import reachable
from runfold_stack.supervision.process import Account


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
