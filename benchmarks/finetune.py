"""Fine-tune a BERT as transformers has it and as ours, on the same batches from the same weights, in turn.

    python benchmarks/finetune.py FOLDER_OR_ID [--steps 50] [--precision bf16] [--threads 1]

Each side is a bare loop: mean of the states, a linear layer, cross-entropy, AdamW. Without dropout both take the same
steps, so that the largest difference of their losses shows whether they compute the same. Prints the time per step of
both, median, and the ratio (above 1: ours is faster). Text: reviews of the village corpus, so no files are needed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.batch import Batch
from lmtasks.heads.classification import ClassificationHead
from lmtasks.pretrained.pretrained import Pretrained
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.village import Village

ROWS = 32  # of a batch
CLASSES = 3  # good, bad and neither
LR = 1e-4


def batches(name: str, steps: int) -> list[Batch]:
    """Return the batches that both sides train on."""
    _, origin = Pretrained(name).resolve()
    tokenizer = origin.tokenizer((), ())
    rows = list(Village(train=steps * ROWS).rows("train", ("text", "label")))
    task = ClassificationTask().learn(rows)
    examples = task.examples(rows[: steps * ROWS], tokenizer)
    return [
        Batch.of("mood", examples[first : first + ROWS], tokenizer.pad_id) for first in range(0, len(examples), ROWS)
    ][:steps]


def ours(backbone: Backbone, head: ClassificationHead) -> Callable[[Batch], Tensor]:
    """Return the mean loss of a batch as lmtasks computes it."""

    def loss(batch: Batch) -> Tensor:
        found = head.loss(backbone, batch)
        return found.total / found.count

    return loss


def theirs(model: nn.Module, output: nn.Linear) -> Callable[[Batch], Tensor]:
    """Return the mean loss of a batch as it is written around a model of transformers."""

    def loss(batch: Batch) -> Tensor:
        mask = batch.source_mask
        states = model(input_ids=batch.source, attention_mask=mask.long()).last_hidden_state  # (B, S, D)
        pooled = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)  # (B, D)
        return F.cross_entropy(output(pooled).float(), batch.target[:, 0])

    return loss


def train(modules: nn.ModuleList, loss: Callable[[Batch], Tensor], rows: list[Batch], bf16: bool) -> Iterator[tuple]:
    """Yield loss and seconds of each step."""
    optimizer = torch.optim.AdamW(modules.parameters(), LR, fused=True)
    modules.train()
    for batch in rows:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        yield float(value), time.perf_counter() - start


def main() -> None:
    """Run both sides step by step in turn and print what they did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub id of a BERT")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    rows = batches(arguments.model, arguments.steps)
    backbone = Pretrained(arguments.model, dropout=0.0, attention_dropout=0.0).build(0)
    head = ClassificationHead(backbone.d_model, CLASSES, dropout=0.0)
    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = transformers.AutoModel.from_pretrained(arguments.model, add_pooling_layer=False, **settings)
    output = copy.deepcopy(head.output)
    bf16 = arguments.precision == "bf16"
    sides = [
        train(nn.ModuleList([backbone, head]), ours(backbone, head), rows, bf16),
        train(nn.ModuleList([model, output]), theirs(model, output), rows, bf16),
    ]
    steps = [tuple(next(side) for side in sides) for _ in rows]  # in turn: what else the machine does meets both
    difference = max(abs(a[0] - b[0]) for a, b in steps)
    own, other = (statistics.median(step[side][1] for step in steps[5:]) for side in (0, 1))
    print(f"{arguments.model}, {arguments.precision}, {arguments.threads} threads, {len(rows)} steps of {ROWS} rows")
    print(f"loss at the end: lmtasks {steps[-1][0][0]:.4f}, transformers {steps[-1][1][0]:.4f}")
    print(f"largest difference of a loss: {difference:.1e}")
    print(f"median step: lmtasks {own:.3f} s, transformers {other:.3f} s, ratio {other / own:.2f}")


if __name__ == "__main__":
    main()
