"""Events that break the contract, as errors of the request that they come from."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Return the first problem of an event that breaks the contract, in the words of a request's error."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"Invalid value for parameter '{'.'.join(str(part) for part in first['loc'])}' supplied: {first['msg']}"
