"""A registered model by itself, with its versions, aliases and all tags: what the journal folds and keeps."""

from dataclasses import dataclass, field

from runfold_projections.core.tags import change_tags

from .fold import Models, RegisteredModelChange


@dataclass(slots=True)
class OneModel:
    """State of one model: `state` holds it alone."""

    state: Models = field(default_factory=Models)
    tags: dict[str, str] = field(default_factory=dict)
    version_tags: dict[int, dict[str, str]] = field(default_factory=dict)

    def apply(self, change: RegisteredModelChange) -> "OneModel":
        """Take in the fold's answer, which is of this model alone."""
        self.state.apply(change)
        change_tags(self.tags, {key: value for (_, key), value in change.model_tags.items()})
        for (_, number, key), value in change.version_tags.items():
            change_tags(self.version_tags.setdefault(number, {}), {key: value})
        for _, number in change.versions_gone:
            self.version_tags.pop(number, None)
        if change.models_gone:
            self.tags, self.version_tags = {}, {}
        return self


def of_model(change: RegisteredModelChange, born: int) -> RegisteredModelChange:
    """The part of a change that is of one model."""
    return RegisteredModelChange(
        models={key: model for key, model in change.models.items() if key == born},
        versions={key: version for key, version in change.versions.items() if key[0] == born},
        aliases={key: on for key, on in change.aliases.items() if key[0] == born},
        model_tags={key: value for key, value in change.model_tags.items() if key[0] == born},
        version_tags={key: value for key, value in change.version_tags.items() if key[0] == born},
        models_gone=[one for one in change.models_gone if one == born],
        versions_gone=[one for one in change.versions_gone if one[0] == born],
    )
