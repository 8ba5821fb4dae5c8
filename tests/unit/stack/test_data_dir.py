"""Files of the data directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runfold_stack.embedded.datadir import DataDir, read_running, write_atomically


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
