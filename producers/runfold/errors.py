"""Errors of `import runfold`.

RunfoldError
└── SdkError
    ├── NotConnected   the tracking server can't be reached
    └── ServerRefused  the server refused what a run asked for
"""

from runfold_schemas.errors import RunfoldError

__all__ = ["NotConnected", "RunfoldError", "SdkError", "ServerRefused"]


class SdkError(RunfoldError):
    """Root of the errors that a training script can meet."""


class NotConnected(SdkError):
    """The tracking server did not answer; the message names the address and the setting it came from."""


class ServerRefused(SdkError):
    """The server refused something a run asked for; the message is the server's."""
