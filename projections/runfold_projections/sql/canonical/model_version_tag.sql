SELECT born, version, key, value FROM model_version_tag ORDER BY born, version, key
