"""Train a small neural network in NumPy on the digits dataset, and log it with `import runfold`.

Set RUNFOLD_TRACKING_URI to the address of a Runfold server.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import runfold

HIDDEN, LEARNING_RATE, EPOCHS = 32, 0.5, 200

digits = load_digits()
train_x, test_x, train_y, test_y = train_test_split(digits.data / 16, digits.target, test_size=0.3, random_state=0)
targets = np.eye(10)[train_y]
rng = np.random.default_rng(0)
w1, w2 = rng.normal(0, 0.1, (64, HIDDEN)), rng.normal(0, 0.1, (HIDDEN, 10))


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.tanh(x @ w1)
    scores = np.exp(hidden @ w2)
    return hidden, scores / scores.sum(axis=1, keepdims=True)


params = {"model": "numpy-mlp", "hidden": HIDDEN, "learning_rate": LEARNING_RATE, "epochs": EPOCHS}
with runfold.run(experiment="digits", name="mlp-runfold", params=params, tags={"client": "runfold"}) as run:
    for _ in range(EPOCHS):
        hidden, probabilities = forward(train_x)
        loss = -np.log(probabilities[np.arange(len(train_y)), train_y]).mean()
        error = (probabilities - targets) / len(train_y)
        gradient2 = hidden.T @ error
        gradient1 = train_x.T @ (error @ w2.T * (1 - hidden**2))
        w1 -= LEARNING_RATE * gradient1
        w2 -= LEARNING_RATE * gradient2
        accuracy = (forward(test_x)[1].argmax(axis=1) == test_y).mean()
        run.log({"loss": loss, "val_accuracy": accuracy, "norm": {"w1": np.linalg.norm(w1), "w2": np.linalg.norm(w2)}})
