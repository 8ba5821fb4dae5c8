"""Run code as another user of this machine, to show what a stranger with an account can reach."""

import os
import shutil
import subprocess
import sys

import pytest

NOBODY = 65534


def _python() -> str:
    """Return an interpreter that `nobody` may execute; the one that runs the tests can lie in a home directory of mode
    0700.
    """
    for candidate in (shutil.which("python3", path="/usr/bin:/usr/local/bin"), sys.executable):
        if (
            candidate
            and subprocess.run([candidate, "-c", ""], user=NOBODY, group=NOBODY, cwd="/", check=False).returncode == 0
        ):
            return candidate
    pytest.fail("no Python interpreter on this machine can be executed by another user (tried /usr/bin/python3)")


def as_other_user(code: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run code that needs only the standard library as uid 65534, without groups and with an empty environment.

    Only root can change users; elsewhere the test is skipped.
    """
    if os.geteuid() != 0:
        pytest.skip("starting a process as another user needs root")
    return subprocess.run(
        [_python(), "-I", "-c", code, *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
