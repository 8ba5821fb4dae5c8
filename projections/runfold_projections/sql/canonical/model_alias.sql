SELECT born, alias, version FROM model_alias ORDER BY born, alias
