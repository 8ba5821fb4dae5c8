"""Measure what `pip install runfold` installs without extras, and the CPU time of `import runfold`.

Sizes are those of the installed files in this environment, from the packages' records, without bytecode. CPU is user
and system time of a process that imports, less that of one that does not: the best of seven.
"""

import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

OURS = ("runfold_schemas", "runfold", "runfold_projections", "runfold_consumers", "runfold_server", "runfold_stack")


def own(package: str) -> int:
    """Bytes of a package of ours: the wheel holds all of them, and an editable install has no record of them."""
    spec = find_spec(package)
    assert spec is not None
    places = spec.submodule_search_locations or []
    files = [path for place in places for path in Path(place).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files)


def light() -> dict[str, int]:
    """Installed bytes of every package that the light client needs, by name."""
    sizes: dict[str, int] = {}
    waiting = ["runfold"]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,.-]*)\])?", wanted).groups()  # type: ignore[union-attr]
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform
        name = re.sub(r"[-_.]+", "-", name).lower()
        files = [Path(file.locate()) for file in found.files or () if file.suffix != ".pyc"]
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
        if name == "runfold":
            sizes[name] = sum(map(own, OURS))
        for requirement in found.requires or ():
            text, _, marker = requirement.partition(";")
            extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
            if extra is None or extra[1] in (extras or "").split(","):
                waiting.append(text.replace(" ", ""))
    return sizes


def cpu(code: str) -> float:
    """CPU seconds of a new interpreter that runs the code, the least of seven."""
    best = 1e9
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


if __name__ == "__main__":
    sizes = light()
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.1f} MB  {name}")
    print(f"{sum(sizes.values()) / 1e6:8.1f} MB  in {len(sizes)} packages")
    bare = cpu("pass")
    print(f"{(cpu('import runfold') - bare) * 1000:8.0f} ms CPU  import runfold")
    whole = "import runfold; runfold.run(mode='offline').finish()"
    print(f"{(cpu(whole) - bare) * 1000:8.0f} ms CPU  a whole offline run")
