-- Which layout of tables a generation has: a release folds and reads only its own.
ALTER TABLE generation ADD COLUMN layout integer NOT NULL DEFAULT 1;
