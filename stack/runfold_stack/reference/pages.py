"""The reference pages, made from the program itself: `python -m runfold_stack.reference.pages [FOLDER]` writes them
into its docs/.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from prometheus_client import CollectorRegistry

from runfold_consumers.runtime.metrics import WorkerMetrics
from runfold_consumers.webhooks.metrics import WebhookMetrics
from runfold_projections.catalog import rejection_meanings
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.errors import Reason
from runfold_schemas.positions.topics import Topic
from runfold_server.core.metrics import ServerMetrics
from runfold_stack.commands.main import app
from runfold_stack.config.settings import CONFIG_FILE, OTHER_VARIABLES, PREFIX, Settings

from . import api_page
from .markdown import table

PAGE = Path("docs/reference.md")

REASONS = {
    Reason.FRAMING: "The value does not begin with a zero byte and a 4-byte schema id.",
    Reason.UNDECLARED_SCHEMA: "The schema id is neither known to the program nor declared in `system`.",
    Reason.BODY: "The body does not decode by its schema.",
    Reason.TRAILING_BYTES: "Bytes are left over after the body.",
    Reason.TOO_LARGE: "The record is larger than any writer may make it.",
    Reason.ENVELOPE: "A header is missing or malformed, or `ce_type` is not the type of the schema id.",
    Reason.TYPE_NOT_ALLOWED: "The event's type does not belong on this topic.",
    Reason.KEY_MISMATCH: "The record's key is not the event's entity.",
    Reason.WRONG_PARTITION: "The partition is not the one that the key belongs to.",
    Reason.RULES_VERSION: "The event was written under a version of the rules that this release does not know.",
    Reason.BEFORE_GENESIS: "The record stands before its partition's genesis record.",
    Reason.ABSURD: "The body decodes, or claims to, but breaks a bound of the event: a count, a length, a value.",
}
CODES = rejection_meanings()


def reference() -> str:
    """The whole page."""
    parts = [
        "# Reference\n\nMade by `make docs` from the program itself; changes here are lost.",
        *(_settings(), _commands(), _metrics(), _events(), _refusals()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _settings() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default is None else f"`{field.default}`"
        rows.append((f"`{PREFIX}{name.upper()}`", default, field.description or ""))
    return f"""
## Settings

Options of the command line win over variables, variables over the TOML file that `{CONFIG_FILE}` names, and the file
over defaults.
A key of the file is the variable without `{PREFIX}`, in lower case. A variable that is set to nothing counts as unset.

{table(("variable", "default", "meaning"), rows)}

Training code that does `import runfold` reads

{table(("variable", "meaning"), ((f"`{name}`", meaning) for name, meaning in OTHER_VARIABLES.items()))}
"""


def _commands() -> str:
    sections = [
        "## Commands\n\nExit code 0: done; 1: it could not be done, and standard error says why; 2: the command "
        "was not understood."
    ]
    for path, command in _walk(typer.main.get_command(app), "runfold"):
        options = [
            (f"`{', '.join(parameter.opts)}`", parameter.help or "")
            for parameter in command.params
            if parameter.name != "help"
        ]
        shown = f"\n\n{table(('option', 'meaning'), options)}" if options else ""
        sections.append(f"### `{path}`\n\n{command.help}{shown}")
    return "\n\n".join(sections)


def _walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    if command.invoke_without_command:
        yield path, command
    for name, child in children.items():
        if not child.hidden:
            yield from _walk(child, f"{path} {name}")


def _metrics() -> str:
    head = ("metric", "kind", "labels", "meaning")
    worker = WorkerMetrics().registry
    WebhookMetrics(worker)
    return f"""
## Metrics

For Prometheus, at `/metrics` of each program.

### Server

{table(head, _registered(ServerMetrics().registry))}

### Worker

{table(head, _registered(worker))}
"""


def _registered(registry: CollectorRegistry) -> Iterator[tuple[str, ...]]:
    # The library has no public way to a metric's labels before there is a sample.
    for collector in list(registry._collector_to_names):
        for metric in collector.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()))
            yield f"`{name}`", metric.type, labels, metric.documentation


def _events() -> str:
    catalog = released_catalog()
    sections = [
        "## Events\n\nThe newest version of each. The envelope's headers are described in [design.md](design.md). "
        "*Personal* marks what may name a person."
    ]
    for topic in Topic:
        subjects = sorted({schema.subject for schema in catalog.by_id.values() if topic in schema.topics})
        for subject in subjects:
            newest = catalog.newest(subject)
            if len(newest.topics) == len(Topic) and topic is not Topic.SYSTEM:
                continue
            where = (
                "every topic"
                if len(newest.topics) == len(Topic)
                else ", ".join(f"`{t}`" for t in sorted(newest.topics))
            )
            schema = json.loads(newest.text)
            head = (
                f"### {schema['name']}\n\n`{subject}`, version {newest.version}, schema id {newest.schema_id}, "
                f"on {where}. {schema['doc']}"
            )
            sections += [head, *_records(schema)]
    return "\n\n".join(sections)


def _records(schema: dict[str, Any]) -> Iterator[str]:
    """Tables of the fields of a record, and of the records within it."""
    rows = []
    inner: list[dict[str, Any]] = []
    for field in schema["fields"]:
        default = f" Default: `{json.dumps(field['default'])}`." if "default" in field else ""
        personal = " *Personal.*" if field.get("runfold.personal") else ""
        rows.append((f"`{field['name']}`", _type(field["type"], inner), f"{field.get('doc', '')}{default}{personal}"))
    if rows:
        yield table(("field", "type", "meaning"), rows)
    for record in inner:
        yield f"**{record['name']}**: {record.get('doc', '')}"
        yield from _records(record)


def _type(kind: Any, inner: list[dict[str, Any]]) -> str:
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return " or ".join(_type(each, inner) for each in kind)
    if kind["type"] == "array":
        return f"array of {_type(kind['items'], inner)}"
    if kind["type"] == "map":
        return f"map of {_type(kind['values'], inner)}"
    if kind["type"] == "record":
        inner.append(kind)
        return str(kind["name"])
    if kind["type"] == "enum":
        return "one of " + ", ".join(kind["symbols"])
    return str(kind["type"])


def _refusals() -> str:
    return f"""
## Why an event had no effect

Both sets are closed. A dead letter is not an event: it can never be folded, and is kept in `set_aside` with its
position.
An event that is rejected is one that the fold refused; it is kept in `rejection` under its id.

{table(("set aside", "meaning"), ((f"`{reason}`", REASONS[reason]) for reason in Reason))}

{table(("rejected", "meaning"), ((f"`{code}`", meaning) for code, meaning in CODES.items()))}
"""


if __name__ == "__main__":
    for path, text in (
        (PAGE, reference()),
        (api_page.PAGE, api_page.api_page()),
        (api_page.DOCUMENT, api_page.openapi_text()),
        (api_page.LOG_DOCUMENT, api_page.asyncapi_text()),
    ):
        (Path(sys.argv[1]) / path if len(sys.argv) > 1 else path).write_text(text, encoding="utf-8")
