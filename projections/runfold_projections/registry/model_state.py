"""One registered model with its versions, aliases and all tags: the state that the journal folds and keeps."""

from dataclasses import dataclass, field

from runfold_projections.core.tags import change_tags

from .fold import Models, RegisteredModelChange


@dataclass(slots=True)
class OneModel:
    """State of one model. `state` holds only this model."""

    state: Models = field(default_factory=Models)
    tags: dict[str, str] = field(default_factory=dict)
    version_tags: dict[int, dict[str, str]] = field(default_factory=dict)

    def apply(self, change: RegisteredModelChange) -> "OneModel":
        """Apply the result of a fold that concerns only this model."""
        self.state.apply(change)
        change_tags(self.tags, {key: value for (_, key), value in change.model_tags.items()})
        for (_, number, key), value in change.version_tags.items():
            change_tags(self.version_tags.setdefault(number, {}), {key: value})
        for _, number in change.versions_gone:
            self.version_tags.pop(number, None)
        if change.models_gone:
            self.tags, self.version_tags = {}, {}
        return self


def of_model(change: RegisteredModelChange, creation_offset: int) -> RegisteredModelChange:
    """Return the part of a change that concerns one model."""
    return RegisteredModelChange(
        models={key: model for key, model in change.models.items() if key == creation_offset},
        versions={key: version for key, version in change.versions.items() if key[0] == creation_offset},
        aliases={key: on for key, on in change.aliases.items() if key[0] == creation_offset},
        model_tags={key: value for key, value in change.model_tags.items() if key[0] == creation_offset},
        version_tags={key: value for key, value in change.version_tags.items() if key[0] == creation_offset},
        models_gone=[one for one in change.models_gone if one == creation_offset],
        versions_gone=[one for one in change.versions_gone if one[0] == creation_offset],
    )
