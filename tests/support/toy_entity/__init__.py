"""A toy entity: what adding an entity takes, and nothing else.

`events.py` and `avsc/` stand for its module in `runfold_schemas`; the other modules for its folder in
`runfold_projections`; `routes.py` for its module in `runfold_server`.
"""
