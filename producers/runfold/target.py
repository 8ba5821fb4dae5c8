"""From a tracking URI to what carries records there."""

from collections.abc import Callable

from .errors import SdkError
from .settings import URI_VARIABLE
from .transport import Transport


def opener(uri: str) -> Callable[[], Transport]:
    """How to open the transport for a URI, without opening it; SdkError says what a URI may be."""
    if uri.startswith(("http://", "https://")):
        from .http import HttpTransport

        return lambda: HttpTransport(uri)
    raise SdkError(
        f"tracking URI {uri!r} (argument tracking_uri or {URI_VARIABLE}) must begin with http:// or https://"
    )
