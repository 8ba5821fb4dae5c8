"""The object store's errors, as a client of the API sees them."""

from runfold_storage.errors import NoStore, ObjectTooLarge, ObjectTruncated, StorageError, StorageUnavailable

from .errors import ApiError, Internal, NotImplementedYet, TooLarge, Unavailable


def as_api_error(error: StorageError) -> ApiError:
    """Return the error to answer.

    An object that is missing here is a fault of this program: routes handle the others.
    """
    match error:
        case StorageUnavailable():
            return Unavailable(str(error), error.retry_after)
        case NoStore():
            # MLflow's client repeats a 503 for minutes.
            return NotImplementedYet(str(error))
        case ObjectTooLarge():
            return TooLarge(str(error))
        case ObjectTruncated():
            return Internal(str(error))
        case _:
            return Internal(f"The artifact store answered {type(error).__name__}: {error}")
