"""Tags as folds change them: a value sets one, None takes it away."""

from collections.abc import Mapping


def change_tags(tags: dict[str, str], changes: Mapping[str, str | None]) -> None:
    """Apply changes to the tags in place; one that is not there and goes is no change."""
    for key, value in changes.items():
        if value is None:
            tags.pop(key, None)
        else:
            tags[key] = value
