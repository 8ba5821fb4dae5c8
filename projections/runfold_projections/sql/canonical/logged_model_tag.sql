SELECT model_id, key, value FROM logged_model_tag ORDER BY model_id, key
