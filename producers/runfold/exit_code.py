"""How this interpreter ends, as far as a run that nobody finished must know: the code of `sys.exit`, which Python keeps from exit handlers.

`sys.exit`, and the `exit` and `quit` of a prompt, are wrapped when the first run starts; whatever wrapped them before is called.
A bare `raise SystemExit(1)` passes by no hook that Python has.
"""

import builtins
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_code: Any = None
_watching = threading.Lock()
_watched: list[object] = []


class Exit(SystemExit):
    """A `SystemExit` that can tell whether somebody caught it: then a Python frame is there when it is let go of."""

    def __del__(self) -> None:
        global _code
        try:
            caught = sys._getframe().f_back is not None
        except (AttributeError, TypeError):
            return
        if caught and threading.current_thread() is threading.main_thread():
            _code = None


Exit.__name__ = Exit.__qualname__ = "SystemExit"
Exit.__module__ = "builtins"


def watch() -> None:
    """Note the codes of exits from now on. May be called again: what replaced our hook meanwhile is wrapped."""
    with _watching:
        sys.exit = _wrapped(sys.exit)
        # At a prompt they say how to leave it.
        for name in () if hasattr(sys, "ps1") else ("exit", "quit"):
            asked = getattr(builtins, name, None)
            if asked is not None:
                setattr(builtins, name, _wrapped(asked))


def exit_code() -> Any:
    """The code of the `sys.exit` that ends the interpreter; None if there is none."""
    return _code


def _wrapped(original: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    if original in _watched:
        return original

    @functools.wraps(original)
    def noting(*args: Any) -> NoReturn:
        global _code
        try:
            original(*args)
        except SystemExit as error:
            if threading.current_thread() is threading.main_thread():
                _code = error.code
            raise Exit(error.code) from None

    _watched.append(noting)
    return noting
