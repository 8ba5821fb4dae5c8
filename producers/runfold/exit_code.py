"""Detection of the exit code, which decides how an unfinished run ends.

Python hides the code of `sys.exit` from exit handlers.

`sys.exit`, and a prompt's `exit` and `quit`, are wrapped when the first run starts. Wrappers that were already there
are still called. No hook sees a bare `raise SystemExit(1)`.
"""

import builtins
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_code: Any = None
_install_lock = threading.Lock()
_wrappers: list[object] = []


class ObservedExit(SystemExit):
    """A `SystemExit` that notices whether a caller caught it: then it is deleted while a Python frame is running."""

    def __del__(self) -> None:
        global _code
        try:
            caught = sys._getframe().f_back is not None
        except (AttributeError, TypeError):
            return
        if caught and threading.current_thread() is threading.main_thread():
            _code = None


# Tracebacks and handlers see an ordinary SystemExit.
ObservedExit.__name__ = ObservedExit.__qualname__ = "SystemExit"
ObservedExit.__module__ = "builtins"


def watch() -> None:
    """Start recording exit codes. Repeated calls wrap functions that replaced the wrappers meanwhile."""
    with _install_lock:
        sys.exit = _wrap(sys.exit)
        # At a prompt they stay as they are, because their repr explains how to leave it.
        for name in () if hasattr(sys, "ps1") else ("exit", "quit"):
            original = getattr(builtins, name, None)
            if original is not None:
                setattr(builtins, name, _wrap(original))


def exit_code() -> Any:
    """Return the code of the `sys.exit` that ends the interpreter; None without one."""
    return _code


def _wrap(original: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    if original in _wrappers:
        return original

    @functools.wraps(original)
    def recording_exit(*args: Any) -> NoReturn:
        global _code
        try:
            original(*args)
        except SystemExit as error:
            if threading.current_thread() is threading.main_thread():
                _code = error.code
            raise ObservedExit(error.code) from None

    _wrappers.append(recording_exit)
    return recording_exit
