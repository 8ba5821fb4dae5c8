"""Train a scikit-learn classifier on the digits dataset, and log it with the unmodified MLflow client.

Set MLFLOW_TRACKING_URI to the address of a Runfold server.
"""

import mlflow
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import classification_report, log_loss
from sklearn.model_selection import train_test_split

EPOCHS = 15

digits = load_digits()
train_x, test_x, train_y, test_y = train_test_split(digits.data / 16, digits.target, test_size=0.3, random_state=0)

mlflow.set_experiment("digits")
with mlflow.start_run(run_name="sgd-mlflow") as run:
    params = {"model": "SGDClassifier", "alpha": 1e-3, "epochs": EPOCHS}
    mlflow.log_params(params)
    mlflow.set_tag("client", "mlflow")
    model = SGDClassifier(loss="log_loss", alpha=params["alpha"], random_state=0)
    for epoch in range(EPOCHS):
        model.partial_fit(train_x, train_y, classes=range(10))
        mlflow.log_metrics(
            {
                "loss": log_loss(train_y, model.predict_proba(train_x)),
                "val_accuracy": model.score(test_x, test_y),
            },
            step=epoch,
        )
    report = classification_report(test_y, model.predict(test_x))
    mlflow.log_text(report, "evaluation/report.txt")
    mlflow.log_dict({"coef": model.coef_.tolist(), "intercept": model.intercept_.tolist()}, "model/weights.json")

# Any artifact can become a model version. `mlflow.sklearn.log_model(..., registered_model_name=...)` works too, but
# needs pandas.
client = mlflow.MlflowClient()
client.create_registered_model("digits")
client.create_model_version("digits", f"runs:/{run.info.run_id}/model", run.info.run_id)
