"""Matching of paths to operations: fixed paths by one look-up, templates by their segments.

A placeholder `{name}` matches one non-empty segment; `{name:path}`, at the end only, one or more.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .operation import Operation

PLACEHOLDER = re.compile(r"{(\w+)(?::path)?}")
"""A placeholder in an operation's path; the group is its name."""


@dataclass(frozen=True, slots=True)
class Match:
    """The operations of one path by method, the declared path, and the values of its placeholders."""

    methods: Mapping[str, Operation[Any]]
    path: str
    placed: Mapping[str, str] = field(default_factory=dict)


class Paths:
    """The paths of some operations. A fixed path wins over a template."""

    def __init__(self, operations: Iterable[Operation[Any]]) -> None:
        methods: dict[str, dict[str, Operation[Any]]] = {}
        for operation in operations:
            methods.setdefault(operation.path, {})[operation.method] = operation
        self._fixed = {path: Match(own, path) for path, own in methods.items() if "{" not in path}
        self._templates = [(_pattern(path), path, own) for path, own in methods.items() if "{" in path]

    def find(self, path: str) -> Match | None:
        """Return the match of a percent-decoded path; None if no operation serves it."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        for pattern, template, methods in self._templates:
            found = pattern.fullmatch(path)
            if found is not None:
                return Match(methods, template, found.groupdict())
        return None


def _pattern(path: str) -> re.Pattern[str]:
    parts = []
    for part in path.split("/"):
        placeholder = PLACEHOLDER.fullmatch(part)
        if placeholder is None:
            parts.append(re.escape(part))
        else:
            parts.append(f"(?P<{placeholder[1]}>{'[^/].*' if part.endswith(':path}') else '[^/]+'})")
    return re.compile("/".join(parts), re.DOTALL)
