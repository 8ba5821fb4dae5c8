"""Runfold's client for training code.

    with runfold.run(experiment="digits", params={"lr": 0.1}) as run:
        run.log({"loss": 0.3})

Only the names in `__all__` are public. The package also contains the MLflow plugin (`mlflow_plugin`).
"""

from .active_run import Run
from .errors import NotConnected, RunfoldError, SdkError, ServerRefused
from .promotion import promote
from .public_api import fork, run
from .settings import VERSION as __version__

__all__ = ["NotConnected", "Run", "RunfoldError", "SdkError", "ServerRefused", "__version__", "fork", "promote", "run"]
