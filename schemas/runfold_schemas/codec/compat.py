"""Check that released schemas only grew: every version of a subject reads every other, both ways, transitively.

The rules are those of "Schema Resolution" in the Avro 1.12 specification. `python -m runfold_schemas.codec.compat` is
the gate in CI.
"""

import json
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from runfold_schemas.errors import BadCatalog

from .catalog import Catalog

PROMOTIONS: dict[str, set[str]] = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}

NAMED = {"record", "enum", "fixed"}


def incompatibilities(reader: Any, writer: Any, path: str = "") -> list[str]:
    """What keeps `reader` from reading data written with `writer`; empty if nothing does. Schemas are parsed JSON."""
    if isinstance(writer, list):
        return [problem for branch in writer for problem in incompatibilities(reader, branch, path)]
    if isinstance(reader, list):
        if any(not incompatibilities(branch, writer, path) for branch in reader):
            return []
        return [f"{path}: no branch of {_brief(reader)} reads {_brief(writer)}"]
    ours, theirs = _type(reader), _type(writer)
    if ours == theirs and ours in NAMED and reader["name"] != writer["name"]:
        return [f"{path}: {ours} {writer['name']} was renamed to {reader['name']}"]
    if ours != theirs:
        return [] if ours in PROMOTIONS.get(theirs, ()) else [f"{path}: {theirs} was written, {ours} is read"]
    match ours:
        case "record":
            return _record(reader, writer, path)
        case "array":
            return incompatibilities(reader["items"], writer["items"], f"{path}[]")
        case "map":
            return incompatibilities(reader["values"], writer["values"], f"{path}{{}}")
        case "enum":
            lost = set(writer["symbols"]) - set(reader["symbols"])
            return (
                [f"{path}: symbols {sorted(lost)} have no meaning any more"] if lost and "default" not in reader else []
            )
        case "fixed":
            return (
                [] if reader["size"] == writer["size"] else [f"{path}: size {writer['size']} became {reader['size']}"]
            )
    return []


def _record(reader: Any, writer: Any, path: str) -> list[str]:
    problems = []
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        where = f"{path}.{field['name']}" if path else field["name"]
        if field["name"] in written:
            problems += incompatibilities(field["type"], written[field["name"]]["type"], where)
        elif "default" not in field:
            problems.append(f"{where}: a field that others did not write needs a default")
    return problems


def _type(schema: Any) -> str:
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _brief(schema: Any) -> str:
    return json.dumps([_type(branch) for branch in schema] if isinstance(schema, list) else _type(schema))


def check(catalog: Catalog) -> list[str]:
    """All incompatibilities between any two versions of any subject."""
    problems = []
    for subject, versions in catalog.subjects.items():
        for older, newer in combinations(versions, 2):
            for reader, writer in ((older, newer), (newer, older)):
                found = incompatibilities(json.loads(reader.text), json.loads(writer.text))
                problems += [f"{subject}: v{reader.version} reading v{writer.version}: {problem}" for problem in found]
    return problems


def main(arguments: Sequence[str] = ()) -> int:
    """Print what is wrong with the released schemas, or with those in a folder; exit code 1 if anything is."""
    try:
        catalog = Catalog.load(*map(Path, arguments[:1]))
    except BadCatalog as error:
        print(error)
        return 1
    problems = check(catalog)
    for problem in problems:
        print(problem)
    print(f"{len(catalog.by_id)} released schemas, {len(problems)} incompatibilities")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
