"""What is on disk: a run folder `runs/NAME` with its config, logs, checkpoints and model. These are the names."""

import re
from pathlib import Path

RUNS = "runs"  # the folder of run folders
RUN_CONFIG, METRICS_FILE = "config.yaml", "metrics.csv"  # in a run folder: its settings, and what training logged
CHECKPOINTS, LAST = "checkpoints", "last.ckpt"  # the folder of checkpoints in a run folder, and the newest in it
MODEL = "model"  # the model folder in a run folder
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"  # in a model folder
METRICS, CARD = "metrics.json", "README.md"  # in a model folder
CHECKSUMS = "SHA256SUMS"  # in a model folder or an export: the checksums of its other files
ADAPTER = "adapter.safetensors"  # in a model folder of a training with LoRA
EXPORT = "lmtasks.json"  # in an export: what it was made of
KEPT_EXPORTS = "engines"  # the folder of exports that are kept in a model folder
FILES = {ADAPTER, CARD, CHECKSUMS, CONFIG, METRICS, TOKENIZER, WEIGHTS}  # of a model folder
MODELS = "a run folder, a model folder, a .ckpt file or the id of a model on the Hugging Face hub (OWNER/MODEL)"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # OWNER/MODEL


def is_hub_id(name: str) -> bool:
    """Tell whether a name can only be an id on the Hugging Face hub: its first part is no folder here."""
    return HUB_ID.fullmatch(name) is not None and not name.endswith(".ckpt") and not Path(name.split("/")[0]).exists()
