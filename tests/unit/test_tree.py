"""Rules for the whole tree: what it must not contain, how large files and folders are, where links lead."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "schemas": "runfold_schemas",
    "log": "runfold_log",
    "storage": "runfold_storage",
    "producers": "runfold",
    "projections": "runfold_projections",
    "consumers": "runfold_consumers",
    "server": "runfold_server",
    "stack": "runfold_stack",
}
MOST_LINES = 500

# Put together here, so that this file does not contain what it looks for.
_DOT = r"\."
REGISTRIES = re.compile(
    "|".join(
        _DOT.join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npm" + "js", "(org|com)"),
            ("maven", "org"),
            ("repo1?", "maven"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("conda", "anaconda", "org"),
            ("artifactory", ""),
        )
    )
    + "|--(extra-)?index-" + "url[ =]+http|index-" + "url *="
)  # fmt: skip
MACHINE = re.compile(r"(?<![\w.~*-])/" + r"(root|work|home|Users|mnt|workspace)/\w")


@cache
def committed() -> tuple[Path, ...]:
    """Files that git knows and that are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in committed():
        try:
            found.append((path.relative_to(ROOT), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def hits(pattern: re.Pattern[str]) -> list[str]:
    return [f"{path}: {match[0]}" for path, text in texts() for match in pattern.finditer(text)]


def test_no_registry_is_named() -> None:
    assert hits(REGISTRIES) == []


def test_no_path_of_a_machine_is_named() -> None:
    assert hits(MACHINE) == []


def test_the_patterns_would_find_something() -> None:
    assert REGISTRIES.search("https://files.python" + "hosted.org/x")
    assert REGISTRIES.search("--index-" + "url http://mirror/simple")
    assert MACHINE.search("see /" + "home/me/x")
    assert not MACHINE.search("src/home/me")


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "requirements").glob("*.txt")))
def test_requirements_are_pinned_with_hashes(name: str) -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text())
    pins = [block for block in blocks if not block.startswith("#")]
    assert pins
    for block in pins:
        assert re.match(r"[\w.\[\],-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


def test_no_folder_on_the_path_is_imported_in_place_of_a_package() -> None:
    """A folder `tests/torch`, with `tests` on the path, was what `import torch` found: an empty package."""
    pinned = {
        match.lower().replace("-", "_")
        for path in (ROOT / "requirements").glob("*.txt")
        for match in re.findall(r"^([\w.-]+)==", path.read_text(), re.MULTILINE)
    }
    ours = [Path(one) for one in sys.path if Path(one).is_relative_to(ROOT) and ".venv" not in one]
    folders = {path.name for one in ours for path in one.glob("*/") if not (path / "__init__.py").exists()}
    assert folders & pinned == set()


@pytest.mark.parametrize(("room", "package"), ROOMS.items())
def test_a_room_says_what_it_is_for(room: str, package: str) -> None:
    assert [p.name for p in (ROOT / room).iterdir() if (p / "__init__.py").exists()] == [package]
    tree = ast.parse((ROOT / room / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert (ROOT / room / package / "py.typed").exists()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in committed()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ROOMS
        if not ast.get_docstring(ast.parse(path.read_text())) and path.read_text().strip()
    ]
    assert silent == []


def test_files_stay_small() -> None:
    lines = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in committed()
        if path.suffix in (".py", ".sql", ".sh")
    }
    long = {name: count for name, count in lines.items() if count >= MOST_LINES}
    assert long == {}


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    (suites,) = re.findall(r"^SUITES := (.+)$", text, re.MULTILINE)
    benchmarks = {f"bench-{path.stem.replace('_', '-')}" for path in (ROOT / "benchmarks").glob("*.py")}
    return named | set(suites.split()) | benchmarks


def test_the_readme_begins_with_what_this_is_and_two_commands() -> None:
    head = (ROOT / "README.md").read_text().splitlines()[:15]
    assert head[0] == "# Runfold"
    assert [line.split()[:2] for line in head if line.startswith("    make ")] == [["make", "demo"], ["make", "up"]]


@pytest.mark.parametrize("page", sorted(p.name for p in ROOT.glob("*.md")))
def test_make_targets_that_pages_name_exist(page: str) -> None:
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named <= make_targets()


PAGES = sorted(path for path in committed() if path.suffix == ".md")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("*.md")), ids=lambda page: page.name)
def test_a_decision_names_what_was_rejected(page: Path) -> None:
    text = page.read_text()
    assert text.count("\n") < 60
    for part in ("Context", "Decision", "Rejected", "Consequences"):
        assert f"**{part}" in text, part


def test_python_in_pages_parses() -> None:
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            ast.parse(block)


def test_settings_that_pages_name_exist() -> None:
    from runfold_stack.config.settings import CONFIG_FILE, OTHER_VARIABLES, PREFIX, Settings

    known = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG_FILE} | set(OTHER_VARIABLES)
    for page in PAGES:
        assert set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text())) <= known, page
