"""What a step of training and a search take on a CPU: lmtasks beside Hugging Face transformers' MarianMTModel, in turn.

    pip install -c constraints.txt transformers
    python benchmarks/transformers_marian.py [--threads 2] [--rounds 7] [--d_model 128]

The same sizes, by default those of the Multi30k model, and the same random ids: a step is 280 pairs of 14 tokens,
a search writes 20 tokens for each of 64 sources, or for one. Both have random weights, so that no text ends early and
all work is done. Read the ratios, not the times, and run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

from lmtasks import Batch, Decoding, Seq2SeqHead, TransformerConfig
from lmtasks.decoding import search

PAD, START, END, VOCABULARY, LAYERS, HEADS = 0, 1, 2, 8000, 4, 4
PAIRS, LENGTH, WRITTEN = 280, 14, 20  # pairs of a step, tokens of a source, tokens that a search writes
DROPOUT, SMOOTHING = 0.1, 0.1

Run = Callable[[], object]


def main() -> None:
    """Print the ratio of each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--d_model", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs, ours = marian(arguments.d_model), TransformerConfig(
        d_model=arguments.d_model, n_heads=HEADS, d_ff=2 * arguments.d_model, encoder_layers=LAYERS,
        decoder_layers=LAYERS, dropout=DROPOUT, norm_position="post", output_bias=True,
    ).build(VOCABULARY)  # fmt: skip
    print(f"{'':<44}{'theirs ms':>10}{'ours ms':>10}   ratio (median, min..max)")
    for name, slow, fast in (*training(theirs, ours), *searches(theirs.eval(), ours.eval())):
        compare(name, slow, fast, arguments.rounds)


def marian(d_model: int) -> MarianMTModel:
    """Return their model, of random weights."""
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCABULARY, d_model=d_model, encoder_layers=LAYERS, decoder_layers=LAYERS,
            encoder_ffn_dim=2 * d_model, decoder_ffn_dim=2 * d_model, encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS, dropout=DROPOUT, attention_dropout=0.0, activation_function="relu",
            scale_embedding=True, pad_token_id=PAD, bos_token_id=START, eos_token_id=END, decoder_start_token_id=START,
            forced_eos_token_id=END, attn_implementation="sdpa",
        )
    )  # fmt: skip


def training(theirs: MarianMTModel, ours: nn.Module) -> Iterator[tuple[str, Run, Run]]:
    """Give a whole step, optimiser and all, in float32 and under bfloat16 autocast."""
    source, target = torch.randint(3, VOCABULARY, (2, PAIRS, LENGTH))
    read = F.pad(target[:, :-1], (1, 0), value=START)  # (B, T) what the decoder reads
    mask = torch.ones_like(source, dtype=torch.bool)
    head = Seq2SeqHead(START, END, label_smoothing=SMOOTHING)
    batch = Batch("translation", source, mask, target, torch.arange(PAIRS))

    def their_loss() -> Tensor:
        logits = theirs(source, attention_mask=mask.long(), decoder_input_ids=read, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), label_smoothing=SMOOTHING)

    def our_loss() -> Tensor:
        return head.loss(ours, batch).total / target.numel()

    for precision in (torch.float32, torch.bfloat16):
        runs = (step(theirs, their_loss, precision), step(ours, our_loss, precision))
        yield f"training step, {str(precision).removeprefix('torch.')}", *runs


def step(model: nn.Module, loss: Callable[[], Tensor], precision: torch.dtype) -> Run:
    """Return a step of Adam on a loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def searches(theirs: MarianMTModel, ours: nn.Module) -> Iterator[tuple[str, Run, Run]]:
    """Give searches for one source and for 64, greedy and with a beam of 5, in float32."""
    for beam, sources in ((1, 1), (5, 1), (1, 64), (5, 64)):
        source = torch.randint(3, VOCABULARY, (sources, LENGTH))
        decoding = Decoding(beam=beam, max_length=WRITTEN, min_length=WRITTEN)
        yield f"search, beam {beam}, {sources} source(s)", *both(theirs, ours, source, decoding)


def both(theirs: MarianMTModel, ours: nn.Module, source: Tensor, decoding: Decoding) -> tuple[Run, Run]:
    """Return their search and ours for the same sources."""
    mask = torch.ones_like(source, dtype=torch.bool)
    lengths = {"max_new_tokens": WRITTEN, "min_new_tokens": WRITTEN}

    @torch.inference_mode()
    def slow() -> None:
        theirs.generate(source, attention_mask=mask.long(), num_beams=decoding.beam, do_sample=False, **lengths)

    @torch.inference_mode()
    def fast() -> None:
        search(ours, ours.encode(source, mask), decoding, START, END, suppress_tokens=[PAD, START])

    return slow, fast


def compare(name: str, theirs: Run, ours: Run, rounds: int) -> None:
    """Time both in turn and print the ratio of each round."""
    theirs(), ours()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    slow, fast = (1000 * statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{name:<44}{slow:>10.1f}{fast:>10.1f}   {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
    )


def seconds(run: Run) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
