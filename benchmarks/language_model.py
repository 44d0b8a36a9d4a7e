"""What a training step of a small language model takes on a CPU: lmtasks beside a GPT in plain PyTorch, in turn.

    python benchmarks/language_model.py [--threads 1] [--rounds 30] [--context 64] [--profile]

The sizes are those of nanoGPT's run for a CPU: 4 layers, width 128, 4 heads, context 64, 12 rows, no dropout, a
vocabulary of 65 characters. Both read the same random ids and take the same steps of the same AdamW. What is measured
is processor time, of all threads together, so that a busy machine disturbs it less. Read the ratios, not the times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmtasks import Batch, TransformerConfig
from lmtasks.backbones.attention import attend
from lmtasks.heads.language_model import LanguageModelHead

ROWS, WIDTH, HEADS, LAYERS, VOCABULARY = 12, 128, 4, 4, 65


class Block(nn.Module):
    """A layer of the reference."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query_key_value, self.mix = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        rows, length, _ = x.shape
        parts = self.query_key_value(self.attention_norm(x)).split(WIDTH, dim=2)
        query, key, value = (part.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(mixed.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.outer(F.gelu(self.inner(self.feed_forward_norm(x))))


class GPT(nn.Module):
    """The reference: GPT-2 (Radford et al. 2019) in plain PyTorch, the output tied to the embedding."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(context, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of target (B, T) after ids (B, T)."""
        x = self.tokens(ids) + self.places(torch.arange(ids.size(1)))
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def main() -> None:
    """Print the ratio of the step times, and those of two ways to compute causal attention."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--profile", action="store_true", help="show what our step is made of")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs, ours = training_steps(arguments.context)
    if arguments.profile:
        profile(theirs, ours)
        return
    print(f"{'':<52}{'theirs ms':>10}{'ours ms':>10}   ratio (median, quartiles)")
    compare(f"training step, context {arguments.context}, plain PyTorch / ours", theirs, ours, arguments.rounds)
    for length in (64, 256):
        compare(f"causal attention, {length} tokens, written out / ours", *attentions(length), arguments.rounds)


def training_steps(context: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return one training step of the reference and one of ours."""
    reference = GPT(context)
    config = TransformerConfig(
        d_model=WIDTH, n_heads=HEADS, d_ff=4 * WIDTH, encoder_layers=0, decoder_layers=LAYERS, dropout=0.0, bias=False,
        positions="learned", activation="gelu", scaled_embeddings=False, max_length=context,
    )  # fmt: skip
    backbone, head = config.build(VOCABULARY), LanguageModelHead(end=2)
    text = torch.randint(VOCABULARY, (ROWS, context + 1))
    first = text[:, :1]
    batch = Batch("generation", first, torch.ones_like(first, dtype=torch.bool), text[:, 1:], torch.arange(ROWS))
    scale = 1 / batch.target.numel()

    def step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

        def run() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return run

    theirs = step(reference, lambda: reference(text[:, :-1], text[:, 1:]))
    return theirs, step(backbone, lambda: head.loss(backbone, batch).total * scale)


def attentions(length: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return forward and backward of one causal attention in float32: three products written out, and what ours does.

    In float32 ours takes the fused kernel; it writes the products out in bfloat16 only, where that kernel is slow.
    """
    size, scale = (ROWS, HEADS, length, WIDTH // HEADS), (WIDTH // HEADS) ** -0.5
    query, key, value = (torch.randn(size, requires_grad=True) for _ in range(3))
    above = torch.ones(length, length, dtype=torch.bool).triu(1)

    def theirs() -> None:
        scores = (query * scale @ key.transpose(-2, -1)).masked_fill(above, -torch.inf)
        (scores.softmax(-1) @ value).sum().backward()

    def ours() -> None:
        attend(query, key, value, None, causal=True, dropout=0.0, scale=scale).sum().backward()

    return theirs, ours


def compare(name: str, theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> None:
    """Time both in turn, the best of three calls each, and print the ratios."""
    theirs(), ours()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    slow, fast = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name:<52}{slow:>10.2f}{fast:>10.2f}   {middle:.2f} ({low:.2f}..{high:.2f})")


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of the fastest of three calls: others use the machine too."""
    times = []
    for _ in range(3):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def profile(*steps: Callable[[], object]) -> None:
    """Print where the time of 20 steps goes."""
    for run in steps:
        run()
        with torch.profiler.profile() as profiler:
            for _ in range(20):
                run()
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=18, max_name_column_width=50))


if __name__ == "__main__":
    main()
