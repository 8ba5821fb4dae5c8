"""What MLflow 3.17.2 serves and this release does not: answered with 501 and a text, not with the 404 of a wrong address."""

PLANNED_2 = {
    "artifacts/presigned": "Presigned addresses of artifacts",
    "gateway-proxy": "Gateways",
    "get-online-trace-details": "Traces",
    "get-trace-artifact": "Traces",
    "runs/create-promptlab-run": "Prompts",
    "traces": "Traces",
    "unified-traces": "Traces",
}
"""Beginning of a path below `/api/2.0/mlflow/` -> what it is about."""

PLANNED_3 = {
    "datasets/": "Evaluation data sets",
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
"""The same below `/api/3.0/mlflow/`."""
