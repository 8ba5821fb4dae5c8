"""Which artifact URI is the root of one run or logged model alone, in this server's store."""

from urllib.parse import unquote, urlsplit

from runfold_schemas.events.artifact_paths import ROOT, owner_and_path


def is_own(root: str, folder: str) -> bool:
    """Return whether `root` belongs to its owner alone: it ends with `folder`, or it names another store."""
    parsed = urlsplit(root)
    return parsed.scheme != "mlflow-artifacts" or bool(parsed.netloc) or own_folder(root, folder) is not None


def own_folder(root: str, folder: str) -> str | None:
    """Return the path of `root` in this server's store; None for another owner's folder or another store."""
    parsed = urlsplit(root)
    path = parsed.path.strip("/")
    if parsed.scheme != "mlflow-artifacts" or parsed.netloc or parsed.query or parsed.fragment:
        return None
    if unquote(path) != path or not f"/{path}".endswith(f"/{folder}"):
        return None
    try:
        owner, rest = owner_and_path(path)
    except ValueError:
        return None
    # A path with both an owner and a rest is inside that owner's folder.
    return path if not rest or owner == ROOT else None
