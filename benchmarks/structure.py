"""Measures the tree: modules per folder, lengths of modules and functions, imports against the layers, and cycles.

`python benchmarks/structure.py [FOLDER]` reads the rooms of a checkout, by default of this one.
"""

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("schemas", "log", "storage", "producers", "projections", "consumers", "server", "stack")


def modules(root: Path) -> dict[str, tuple[Path, ast.Module]]:
    """Return the parsed modules of all rooms by their dotted names."""
    found = {}
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            name = ".".join(path.relative_to(root / room).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = (path, ast.parse(path.read_text()))
    return found


def imports(name: str, path: Path, tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Yield the modules of ours that a module imports anywhere."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                if inner in known:
                    yield inner
                elif source in known:
                    yield source


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    sys.setrecursionlimit(10_000)
    for node in edges:
        if node not in index:
            visit(node)
    return found


def row(what: str, lengths: list[int]) -> str:
    """Return count, median, 95th percentile and maximum of some lengths in lines."""
    ordered = sorted(lengths)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    median = statistics.median(ordered)
    return f"{what:<10} {len(ordered):>5}   median {median:>4.0f}   p95 {p95:>4}   longest {ordered[-1]}"


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    found = modules(root)
    code = {name: of for name, of in found.items() if of[0].name != "__init__.py"}
    folders = Counter(path.parent.relative_to(root) for path, _ in code.values())
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for _, tree in found.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    known = set(found)
    edges = {name: set(imports(name, *of, known)) - {name} for name, of in found.items()}
    between: dict[str, set[str]] = {}
    for name, targets in edges.items():
        folder = name if found[name][0].name == "__init__.py" else name.rpartition(".")[0]
        others = {t if found[t][0].name == "__init__.py" else t.rpartition(".")[0] for t in targets}
        between.setdefault(folder, set()).update(others - {folder})
    print(row("modules", [len(path.read_text().splitlines()) for path, _ in code.values()]))
    print(row("functions", functions))
    print(row("folders", list(folders.values())).replace("longest", "largest"))
    print("largest folders: " + ", ".join(f"{folder} {count}" for folder, count in folders.most_common(6)))
    print(
        f"imports: {sum(map(len, edges.values()))} between modules, {sum(map(len, between.values()))} between folders"
    )
    print(f"cycles of modules: {cycles(edges) or 'none'}")
    print(f"cycles of folders: {cycles(between) or 'none'}")


if __name__ == "__main__":
    main()
