"""Errors of the object store.

RunfoldError
└── StorageError
    ├── StorageUnavailable  the store is away, slow or rejects our keys; repeat after `retry_after` seconds
    ├── NoStore             no store is set
    ├── ObjectMissing       the store has no such object, or no such upload
    ├── UploadRejected      parts of an upload that do not fit together
    ├── ObjectTooLarge      a file of more parts than S3 takes
    └── ObjectTruncated     an object has fewer bytes than it was stored with
"""

from runfold_schemas.errors import RunfoldError


class StorageError(RunfoldError):
    """Root of the object store's errors."""


class StorageUnavailable(StorageError):
    """The store did not do what was asked; the message names the store. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoStore(StorageError):
    """No store is set."""

    def __init__(self) -> None:
        super().__init__("This server keeps no artifacts: no S3 store is set (RUNFOLD_S3_ENDPOINT).")


class ObjectMissing(StorageError):
    """The store has no such object, or no such upload."""


class UploadRejected(StorageError):
    """The store rejected what the caller sent: parts of an upload that do not fit together."""


class ObjectTooLarge(StorageError):
    """The file has more parts than S3 takes; the message has both sizes."""


class ObjectTruncated(StorageError):
    """The object has fewer bytes than it was stored with."""
