"""Refusals of the registry's fold in MLflow's words."""

from runfold_projections.folds.decision import RejectionCode

from ..errors import AlreadyExists, ApiError, Internal, InvalidParameter, NotFound
from ..writes import RefusedWrite


def said(refused: RefusedWrite) -> ApiError:
    """The error to answer."""
    message, details = refused.refused.message, refused.refused.details
    try:
        code = RejectionCode(refused.refused.code)
    except ValueError:
        return Internal(f"The server's own event was set aside: {message}")
    match code:
        case RejectionCode.MODEL_EXISTS:
            return AlreadyExists(f"Registered Model (name={details.get('name', '')}) already exists.")
        case RejectionCode.MODEL_NOT_FOUND:
            return no_model(str(details.get("name", "")))
        case RejectionCode.MODEL_VERSION_NOT_FOUND:
            return no_version(str(details.get("name", "")), details.get("version", ""))
    return InvalidParameter(message)


def no_model(name: str) -> NotFound:
    """No such registered model."""
    return NotFound(f"Registered Model with name={name} not found")


def no_version(name: str, version: int | str) -> NotFound:
    """No such version of the model."""
    return NotFound(f"Model Version (name={name}, version={version}) not found")
