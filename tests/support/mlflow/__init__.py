"""MLflow's REST as tests call it, and the answers recorded from MLflow's own server."""
