"""Tiny models of others, drawn at random with transformers and saved, and what ours are compared in.

Weights are larger than those of a new model, so that logits differ clearly.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmtasks.backbones.base import Backbone
from lmtasks.backbones.loss import IGNORE
from lmtasks.decoding import Decoding, search
from lmtasks.heads.seq2seq import shift_right
from lmtasks.pretrained.table import Table
from lmtasks.village import Village

transformers = pytest.importorskip("transformers")

TEXT = "the dog and a cat : translate to the old red house , with trees under over eats runs sees ."
WORDS = TEXT.split()
EARLY = {"estimate": False, "beam": True, "exact": "never"}  # ours -> early_stopping


@torch.no_grad()
def randomised(model: nn.Module, spread: float = 0.3) -> nn.Module:
    """Draw every parameter anew, norms around 1."""
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name and name.endswith("weight")
        parameter.normal_(float(is_norm), 1.0 if "relative" in name else spread)
    return model.eval()


def save_t5(folder: Path, kind: str = "t5", extra_ids: int = 5, **settings: Any) -> Any:
    """Save a T5 or mT5 with a tokenizer of a few words, and return it."""
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in dict.fromkeys(WORDS) if len(word) > 1), *letters]
    pieces += [f"<extra_id_{n}>" for n in reversed(range(extra_ids))]
    scored = [(piece, 0.0 if piece.startswith("<") else len(piece) - 9.0) for piece in pieces]
    transformers.T5Tokenizer(vocab=scored, extra_ids=extra_ids).save_pretrained(folder)
    sizes = {"d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 2, "num_decoder_layers": 3}
    config = {"t5": transformers.T5Config, "mt5": transformers.MT5Config}[kind](
        vocab_size=len(pieces) + 3, dropout_rate=0.0, decoder_start_token_id=0, **{**sizes, **settings}
    )
    model = {"t5": transformers.T5ForConditionalGeneration, "mt5": transformers.MT5ForConditionalGeneration}[kind]
    torch.manual_seed(1)
    made = randomised(model(config))
    made.shared.weight.data[1] *= 3  # so that half of the texts end within 15 tokens
    made.save_pretrained(folder)
    return made


def sentencepiece_model(size: int) -> bytes:
    """Return a sentencepiece model of the village corpus, with the special tokens of T5."""
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(row["text"] for row in Village(train=300).rows("train", ("text",))), model_writer=written,
        model_type="unigram", vocab_size=size, hard_vocab_limit=False, minloglevel=2,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    return written.getvalue()


def sources(vocab: int, rows: int, longest: int, first: int = 3) -> tuple[Tensor, Tensor]:
    """Return token ids (B, S) of different lengths, padded with 0, and their mask."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
    mask = torch.arange(longest) < lengths
    return torch.randint(first, vocab, (rows, longest), generator=generator) * mask, mask


def assert_same_training(ours: Backbone, theirs: Any, table: Table, start: int, longest: int = 9) -> None:
    """Compare logits, loss and all gradients on padded sources and targets."""
    vocab = theirs.config.vocab_size
    source, mask = sources(vocab, 4, longest)
    target, written = sources(vocab, 4, 7)
    target = target.masked_fill(~written, IGNORE)
    wanted = theirs(input_ids=source, attention_mask=mask.long(), labels=target)
    wanted.loss.backward()
    hidden = ours.decode(shift_right(target, start), ours.encode(source, mask))
    logits, size = ours.logits(hidden)[..., :vocab], wanted.logits.abs().max()
    assert (logits - wanted.logits)[written].abs().max() <= 1e-5 * max(1, size)
    loss = ours.loss(hidden, target)
    mean = loss.total / loss.count
    assert mean.item() == pytest.approx(wanted.loss.item(), rel=1e-5)
    mean.backward()
    gradients = dict(table.names(of_gradients(ours)))
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None, name
        found, largest = gradients.pop(name), parameter.grad.abs().max()
        assert (found[: len(parameter)] - parameter.grad).abs().max() <= 1e-4 * max(1, largest), name
    assert not gradients
    theirs.zero_grad(), ours.zero_grad()


def assert_same_texts(
    ours: Backbone, theirs: Any, start: int, end: int, decoding: Decoding, never: Sequence[int] = (), **settings: Any
) -> int:
    """Compare the texts found for 200 sources, and return how many ended before the limit.

    At its limit ours ends a text, theirs cuts it off. `never` are ids that neither may write.
    """
    source, mask = sources(theirs.config.vocab_size, 200, 8)
    written = theirs.generate(
        input_ids=source, attention_mask=mask.long(), max_length=decoding.max_length + 1, num_beams=decoding.beam,
        length_penalty=decoding.length_penalty, do_sample=False, suppress_tokens=[*never] or None,
        early_stopping=EARLY[decoding.early_stop] if decoding.beam > 1 else None, **settings,
    )[:, 1:].tolist()  # fmt: skip
    with torch.inference_mode():
        found = search(ours, ours.encode(source, mask), decoding, start, end, never)
    ended = [(row[: row.index(end)], mine[0].tokens) for row, mine in zip(written, found, strict=True) if end in row]
    assert [row for row, _ in ended] == [mine for _, mine in ended]
    if decoding.beam == 1:  # whose cut texts are the same too
        assert all(row[: len(mine[0].tokens)] == mine[0].tokens for row, mine in zip(written, found, strict=True))
    return len(ended)


def assert_same_names(ours: Backbone, theirs: Any, table: Table) -> None:
    """Compare the weights that the table gives back with theirs."""
    own = dict(table.names(ours))
    for name, parameter in theirs.named_parameters():
        assert torch.equal(own.pop(name)[: len(parameter)], parameter), name
    assert not own


def of_gradients(module: Backbone) -> Backbone:
    """Return a copy of a module that has the gradients for parameters."""
    made = copy.deepcopy(module)
    with torch.no_grad():
        for own, parameter in zip(made.parameters(), module.parameters(), strict=True):
            assert parameter.grad is not None
            own.copy_(parameter.grad)
    return made
