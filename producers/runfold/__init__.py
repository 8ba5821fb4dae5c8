"""Runfold for training code: `with runfold.run(experiment="digits", params={"lr": 0.1}) as run: run.log({"loss": 0.3})`.

Only what is named in `__all__` is public here. The other modules of this package are how the log is written; the server uses them.
"""

from .active_run import Run
from .errors import NotConnected, RunfoldError, SdkError, ServerRefused
from .promotion import promote
from .public_api import fork, run
from .settings import VERSION as __version__

__all__ = ["NotConnected", "Run", "RunfoldError", "SdkError", "ServerRefused", "__version__", "fork", "promote", "run"]
