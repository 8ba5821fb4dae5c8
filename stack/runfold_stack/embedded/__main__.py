"""What developers of Runfold run by hand: `python -m runfold_stack.embedded (pins | warm-up)`."""

from __future__ import annotations

import asyncio
import sys

from runfold_stack.errors import StackError

from . import aot, jars


def pins() -> None:
    """Prints a new `kafka_jars.txt`."""
    print(jars.format_pins(jars.resolve_pins()), end="")


def warm_up() -> None:
    """Fetches the jars and makes the JVM's start cache, unless both are there."""
    classpath = jars.classpath(lambda detail: print(detail, file=sys.stderr))
    cache = aot.cache_file(classpath)
    if not cache.is_file():
        asyncio.run(aot.train(classpath, cache))


COMMANDS = {"pins": pins, "warm-up": warm_up}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    try:
        COMMANDS[sys.argv[1]]()
    except StackError as error:
        sys.exit(str(error))
