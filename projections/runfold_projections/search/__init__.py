"""Search expressions: text of MLflow's grammar becomes a typed tree, and the tree parameterised SQL.

The way through the room: `tokens` cuts the text, `grammar` finds the clauses, `vocabulary` says what a clause may mean for runs and
for experiments, `tree` is what remains, `run_sql` and `experiment_sql` say it in SQL. No text of a caller becomes SQL: it travels
as a parameter, or is looked up in a table of ours.
"""
