"""Errors of `import runfold`.

RunfoldError
└── SdkError
    ├── NotConnected   the tracking server can't be reached
    └── ServerRefused  the server rejected a request or an event of the run
"""

from runfold_schemas.errors import RunfoldError

__all__ = ["NotConnected", "RunfoldError", "SdkError", "ServerRefused"]


class SdkError(RunfoldError):
    """Root of the errors that a training script can catch."""


class NotConnected(SdkError):
    """The tracking server did not answer. The message gives its address and the setting that holds it."""


class ServerRefused(SdkError):
    """The server rejected a request or an event of the run. The message contains the server's reason."""
