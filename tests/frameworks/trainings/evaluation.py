"""`mlflow.evaluate` and `mlflow.models.evaluate` of a classifier and a regressor, and of predictions in a table:
metrics, plots and tables.
"""

import json
import sys

import mlflow
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

mlflow.set_experiment(sys.argv[1])
x, y = load_iris(return_X_y=True, as_frame=True)
table = x.assign(label=y)
found = {}
with mlflow.start_run(run_name="classifier") as run:
    info = mlflow.sklearn.log_model(
        LogisticRegression(max_iter=200).fit(x, y), name="model", pip_requirements=[],
        serialization_format="cloudpickle", signature=mlflow.models.infer_signature(x, y),
    )  # fmt: skip
    result = mlflow.models.evaluate(
        info.model_uri, table, targets="label", model_type="classifier", evaluators="default"
    )
    found["classifier"] = [run.info.run_id, result.metrics["accuracy_score"], sorted(result.artifacts)]
with mlflow.start_run(run_name="regressor") as run:
    info = mlflow.sklearn.log_model(
        LinearRegression().fit(x, y), name="model", pip_requirements=[], serialization_format="cloudpickle"
    )
    result = mlflow.evaluate(info.model_uri, table, targets="label", model_type="regressor", evaluators="default")
    found["regressor"] = [run.info.run_id, result.metrics["r2_score"], sorted(result.artifacts)]
with mlflow.start_run(run_name="table") as run:
    data = mlflow.data.from_pandas(
        pd.DataFrame({"y": [0, 1, 1, 0], "said": [0, 1, 0, 0]}), targets="y", predictions="said"
    )
    result = mlflow.models.evaluate(
        data=data,
        model_type="classifier",
        extra_metrics=[
            mlflow.models.make_metric(
                eval_fn=lambda predictions, targets, metrics: float(sum(predictions == targets)),
                greater_is_better=True,
                name="right",
            )
        ],
    )
    found["table"] = [run.info.run_id, result.metrics["right"], sorted(result.artifacts)]
print(json.dumps(found))
