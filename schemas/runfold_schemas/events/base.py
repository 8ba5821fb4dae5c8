"""What all facts share: their base, and the types of their fields with the contract's bounds.

Bounds here are the contract's, for every writer: they keep a record foldable and indexable. APIs may be stricter.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

INT64 = 2**63
RUN_ID_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9_\-]{0,255}$"
MAX_KEY_CHARS = 250
MAX_NAME_CHARS = 500
DEFAULT_WORKSPACE = "default"


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must not hold a lone surrogate, which UTF-8 can't carry") from None
    return text


def parse_json(text: str) -> Any:
    """A JSON document, at most 200 levels deep and without NaN and infinities, whichever thread or stack reads it.

    ValueError else.
    """
    value = from_json(text, allow_inf_nan=False)
    json.dumps(value, allow_nan=False)
    return value


def json_object(text: str) -> str:
    if not isinstance(parse_json(text), dict):
        raise ValueError("must be a JSON object")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Key = Annotated[Text, Field(min_length=1, max_length=MAX_KEY_CHARS)]
Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARS)]
RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN)]
Long = Annotated[int, Field(ge=-INT64, lt=INT64)]
ExperimentId = Annotated[int, Field(ge=0, lt=INT64)]
# Avro's int has 32 bits; fastavro would write more, which no other reader takes.
Count = Annotated[int, Field(ge=1, lt=2**31)]
Strings = dict[Key, Text]


def fits(most: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if len(text.encode()) > most:
            raise ValueError(f"must have at most {most} bytes in UTF-8")
        return text

    return check


class Fact(BaseModel):
    """Base of all events but metrics; `subject` is the Avro record's full name, the CloudEvents type."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    subject: ClassVar[str]

    @property
    def entity(self) -> str | None:
        """Key of the record where the event itself fixes it; None where the workspace or the partition does."""
        return None
