"""What is on disk: a run folder `runs/NAME` with its config, logs, checkpoints and model. These are the names."""

RUNS = "runs"  # the folder of run folders
RUN_CONFIG, METRICS_FILE = "config.yaml", "metrics.csv"  # in a run folder: its settings, and what training logged
CHECKPOINTS, LAST = "checkpoints", "last.ckpt"  # the folder of checkpoints in a run folder, and the newest in it
MODEL = "model"  # the model folder in a run folder
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"  # in a model folder
METRICS, CARD = "metrics.json", "README.md"  # in a model folder
ADAPTER = "adapter.safetensors"  # in a model folder of a training with LoRA
