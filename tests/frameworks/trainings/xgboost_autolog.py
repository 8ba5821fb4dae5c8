"""XGBoost under MLflow's autolog: a metric per round, plots, the booster as a registered model that is loaded back."""

import json
import sys

import mlflow
import numpy as np
import xgboost
from sklearn.datasets import load_breast_cancer

name = sys.argv[1]
mlflow.set_experiment(name)
mlflow.xgboost.autolog(registered_model_name=f"{name} booster", importance_types=["weight", "gain"])
x, y = load_breast_cancer(return_X_y=True, as_frame=True)
data = xgboost.DMatrix(x, label=y)
booster = xgboost.train(
    {"max_depth": 2, "objective": "binary:logistic", "nthread": 1},
    data, num_boost_round=20, evals=[(data, "train")], early_stopping_rounds=5, verbose_eval=False,
)  # fmt: skip
xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(x, y)
loaded = mlflow.xgboost.load_model(f"models:/{name} booster/1")
served = mlflow.pyfunc.load_model(f"models:/{name} booster/1").predict(x)
print(
    json.dumps(
        {
            "same": bool(np.allclose(loaded.predict(data), booster.predict(data))),
            "served": bool(np.allclose(served, booster.predict(data))),
        }
    )
)
