SELECT born, key, value FROM registered_model_tag ORDER BY born, key
