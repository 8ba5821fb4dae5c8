"""What happened to entities: how the events of each kind fold, and what it is made of, field by field.

Fields are flat names, as people say them: `status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`.
"""
