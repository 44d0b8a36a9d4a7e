"""What the CPU paths of lmtasks bring: each beside what PyTorch offers for the same, in turn, as ratios.

    python benchmarks/cpu.py [--threads 2] [--rounds 7]

Times of one machine mean little on another, and little on a busy one: read the ratios, and run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lmtasks import Batch, Seq2SeqHead, TransformerConfig
from lmtasks.backbones.attention import attend
from lmtasks.backbones.dropout import Dropout
from lmtasks.backbones.loss import linear_cross_entropy
from lmtasks.training.optim.muon import BatchedMuon

ROWS, LENGTH, WIDTH, VOCABULARY = 280, 14, 128, 8000  # a step of 4,000 tokens of the Multi30k model
CONFIG = TransformerConfig(d_model=WIDTH, d_ff=256, encoder_layers=4, decoder_layers=4, dropout=0.3)


def main() -> None:
    """Run all pairs and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{'':<44}{'theirs ms':>10}{'ours ms':>10}   ratio (median, min..max)")
    for name, theirs, ours in (cross_entropy(), dropout(), attention(), muon(), training_step()):
        compare(name, theirs, ours, arguments.rounds)


def compare(name: str, theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    """Time both in turn and print the ratio of each round."""
    theirs(), ours()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    slow, fast = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{name:<44}{slow:>10.1f}{fast:>10.1f}   {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
    )


def seconds(run: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cross_entropy() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """Forward and backward from hidden states to the loss, label smoothing 0.1, float32."""
    hidden = torch.randn(ROWS * LENGTH, WIDTH, requires_grad=True)
    weight = (torch.randn(VOCABULARY, WIDTH) * WIDTH**-0.5).requires_grad_()
    target = torch.randint(VOCABULARY, (len(hidden),))

    def theirs() -> None:
        F.cross_entropy(hidden @ weight.t(), target, reduction="sum", label_smoothing=0.1).backward()

    def ours() -> None:
        linear_cross_entropy(hidden, weight, None, target, 0.1).total.backward()

    return "cross-entropy, F.cross_entropy / ours", theirs, ours


def dropout() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """The forward pass of one dropout."""
    x, ours = torch.randn(ROWS, LENGTH, WIDTH), Dropout(0.3)
    return "dropout, F.dropout / ours", lambda: F.dropout(x, 0.3), lambda: ours(x)


def attention() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """Forward and backward of one attention in bfloat16, padding masked."""
    query, key, value = (
        torch.randn(ROWS, 4, LENGTH, WIDTH // 4, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    mask = torch.ones(ROWS, 1, 1, LENGTH, dtype=torch.bool)

    def theirs() -> None:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            F.scaled_dot_product_attention(query, key, value, mask).sum().backward()

    def ours() -> None:
        attend(query, key, value, mask, causal=False, dropout=0.0, scale=(WIDTH // 4) ** -0.5).sum().backward()

    return "attention in bfloat16, fused kernel / ours", theirs, ours


def muon() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """A step of the optimiser on all matrices of the model's layers."""
    matrices = [layer.weight for layer in CONFIG.build(VOCABULARY).modules() if isinstance(layer, nn.Linear)]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    return "Muon, torch.optim.Muon / ours", torch.optim.Muon(matrices).step, BatchedMuon(matrices, 1e-3).step


def training_step() -> tuple[str, Callable[[], object], Callable[[], object]]:
    """Forward and backward of the whole model in float32 and under bfloat16 autocast."""
    backbone, head = CONFIG.build(VOCABULARY), Seq2SeqHead(start=1, end=2, label_smoothing=0.1)
    source, target = torch.randint(3, VOCABULARY, (2, ROWS, LENGTH))
    batch = Batch("translation", source, torch.ones_like(source, dtype=torch.bool), target, torch.arange(ROWS))
    batch = replace(batch, scale=1 / target.numel())

    def step(bfloat16: bool) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = head.loss(backbone, batch).total * batch.scale
        loss.backward()
        backbone.zero_grad()

    return "training step of ours, float32 / bfloat16", lambda: step(False), lambda: step(True)


if __name__ == "__main__":
    main()
