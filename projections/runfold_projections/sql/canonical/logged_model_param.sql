SELECT model_id, key, value FROM logged_model_param ORDER BY model_id, key
