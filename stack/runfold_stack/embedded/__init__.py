"""The real services, run from packages: nothing to install, no Docker, no Java.

Kafka, Postgres and the S3 store here are the same programs that a cluster runs, so there is one code path: whoever
works on Runfold, tests it or tries it out uses the same aiokafka and asyncpg code as production does. This room finds
the programs (`jars`, `account`), decides where their data and ports are (`datadir`, `ports`), and knows each service's
settings and its first question (`kafka`, `postgres`, `s3`). Keeping processes alive, and leaving none behind, is the
work of `runfold_stack.supervision.supervisor`.
"""

from .datadir import DataDir, StackFile, read_running
from .stack import Endpoints, RunningStack, embedded_stack

__all__ = ["DataDir", "Endpoints", "RunningStack", "StackFile", "embedded_stack", "read_running"]
