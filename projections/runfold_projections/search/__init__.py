"""The search languages: the text of a filter or an order becomes a typed tree.

`tokens` splits the text, `grammar` finds its clauses, and a `vocabulary` (one per searched entity) gives them their
meaning as a `tree`. Each entity's `search_sql`, or `run_search` for runs, evaluates the tree. A caller's text never
becomes SQL: it is a parameter, or a key of one of our tables.
"""
