"""Changes of tags by folds: a value sets a tag, None removes it."""

from collections.abc import Mapping


def change_tags(tags: dict[str, str], changes: Mapping[str, str | None]) -> None:
    """Apply changes to the tags in place. Removing a missing tag changes nothing."""
    for key, value in changes.items():
        if value is None:
            tags.pop(key, None)
        else:
            tags[key] = value
