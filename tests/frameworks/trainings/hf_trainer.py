"""The Hugging Face Trainer with `report_to="mlflow"`, which uploads each checkpoint's folder; a small model of random
weights.

It also runs under torchrun.
"""

import json
import os
import sys

import mlflow
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

os.environ["MLFLOW_EXPERIMENT_NAME"] = sys.argv[1]
os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "1"
torch.manual_seed(1)
config = BertConfig(
    vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2
)
model = BertForSequenceClassification(config)
words = torch.randint(0, 32, (32, 8))
rows = [
    {"input_ids": row, "attention_mask": torch.ones(8, dtype=torch.long), "labels": int(row[0] > 15)} for row in words
]
arguments = TrainingArguments(
    "output", run_name="mine", report_to="mlflow", num_train_epochs=2, per_device_train_batch_size=8, use_cpu=True,
    ddp_backend="gloo" if "RANK" in os.environ else None,
    logging_steps=1, eval_strategy="epoch", save_strategy="epoch", disable_tqdm=True,
)  # fmt: skip
trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:8])
trainer.train()
if trainer.is_world_process_zero():
    run_id = mlflow.last_active_run().info.run_id
    last = f"checkpoint-{trainer.state.global_step}"
    folder = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{last}/artifacts/{last}")
    loaded = BertForSequenceClassification.from_pretrained(folder)
    same = all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    print(json.dumps({"run": run_id, "same": same}))
