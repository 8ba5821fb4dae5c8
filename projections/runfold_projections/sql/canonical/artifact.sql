SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact ORDER BY owner, path
