"""Settings, errors, metrics and the database: what every package of the server builds on."""
