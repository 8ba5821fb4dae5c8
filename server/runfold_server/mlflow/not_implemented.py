"""Paths that MLflow 3.17.2 serves and this release does not. They answer 501 with a message instead of 404."""

PLANNED_2 = {
    "artifacts/presigned": "Presigned addresses of artifacts",
    "gateway-proxy": "Gateways",
    "get-online-trace-details": "Traces",
    "get-trace-artifact": "Traces",
    "runs/create-promptlab-run": "Prompts",
    "traces": "Traces",
    "unified-traces": "Traces",
}
"""Prefix of a path below `/api/2.0/mlflow/` -> its subject."""

PLANNED_3 = {
    "datasets/": "Evaluation datasets",
    "demo/": "Demonstrations",
    "gateway/": "Gateways",
    "genai/": "Evaluations",
    "get-trace-artifact": "Traces",
    "issues": "Issues",
    "jobs/": "Jobs",
    "label-schemas/": "Label schemas",
    "prompt-optimization/": "Prompts",
    "review-queues/": "Review queues",
    "scorer": "Scorers",
    "traces": "Traces",
    "ui-telemetry": "Telemetry of pages",
    "workspaces": "Workspaces",
}
"""Prefix of a path below `/api/3.0/mlflow/` -> its subject."""
