"""What the log folds into: pure folds, read models in Postgres, and the queries over them. All SQL lives here."""
