"""Which extra of this distribution brings a package."""

import re
from importlib.metadata import requires

from runfold_stack.errors import MissingExtra

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+).*extra == [\"'](?P<extra>[\w-]+)[\"']")
_STARTS_EVERYTHING = "up"


def missing_extra(command: str, error: ModuleNotFoundError) -> MissingExtra | None:
    """What to install so that the command can import what it failed to; None if no extra of ours would help."""
    package = (error.name or "").partition(".")[0]
    extra = _extras().get(package)
    if extra is None:
        return None
    # The server's packages alone would only lead `up` to the next one that is missing.
    return MissingExtra(command, "embedded" if command == _STARTS_EVERYTHING else extra, package)


def _extras() -> dict[str, str]:
    """The extra that brings a package, by the name under which the package is imported."""
    found = (_REQUIREMENT.match(line) for line in requires("runfold") or ())
    return {match["name"].replace("-", "_"): match["extra"] for match in found if match and match["name"] != "runfold"}
