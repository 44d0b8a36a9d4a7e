"""Random tiny models of fairseq's kind, as transformers has them, and comparisons of a model of theirs with ours.

Initial weights would hide mistakes: all weights are drawn anew, those of norms and all biases too.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import torch
from foreign import of_gradients

from lmtasks.backbones.loss import IGNORE
from lmtasks.batch import pad
from lmtasks.decoding import Decoding, search
from lmtasks.heads.seq2seq import shift_right
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.pretrained import find_family

SIZES: dict[str, Any] = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64, "dropout": 0.0,
}  # fmt: skip
WORDS = ["".join(random.Random(n).choices("abcdefghij", k=2 + n % 4)) for n in range(60)]


def sentencepiece_model(kind: str = "unigram", size: int = 60, seed: int = 0) -> bytes:
    """Return a sentencepiece model of invented words."""
    import sentencepiece

    draw = random.Random(seed)
    texts = (" ".join(draw.choices(WORDS, k=6)) for _ in range(200))
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=made, vocab_size=size, model_type=kind, minloglevel=2
    )
    return made.getvalue()


def redrawn(model: Any, seed: int = 1) -> Any:
    """Draw all weights of a model of theirs anew, wide enough for clear choices, and return it for evaluation."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if (tensor.requires_grad or name == "final_logits_bias") and tensor.is_floating_point():
            spread = tensor.size(1) ** -0.5 * 1.5 if tensor.ndim == 2 and len(tensor) > 1 else 0.3
            noise = torch.randn(tensor.shape, generator=draw) * spread
            tensor.data = noise + 1 if "norm" in name and name.endswith("weight") else noise
    return model.eval()


def ending_often(model: Any, last_norm: Any, end: int, more: float = 4.0) -> Any:
    """Raise the logit of the end token by `more`, so that random texts end, and return the model."""
    direction = model.get_input_embeddings().weight[end].detach()
    last_norm.bias.data += direction * more / direction.square().sum()
    return model


def write_model(folder: Path, model: Any, **generation: Any) -> Path:
    """Write a model of theirs, with these settings of generation."""
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return folder


def write_json(folder: Path, **files: Any) -> None:
    """Write JSON files, given without their ending, into a folder."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def random_texts(
    count: int, size: int, first: int, end: int, begin: tuple[int, ...] = (), seed: int = 0
) -> list[list[int]]:
    """Return texts of 1 to 9 tokens from `first` to `size`, with `begin` and the end around them."""
    draw = random.Random(seed)
    return [[*begin, *draw.choices(range(first, size), k=draw.randint(1, 9)), end] for _ in range(count)]


def assert_same_logits(
    theirs: Any, ours: Any, sources: list[list[int]], targets: list[list[int]], padding: int
) -> None:
    """Compare logits and loss of padded sources and targets, teacher forced, and run both backward."""
    source, target = pad(sources, padding), pad(targets, IGNORE)
    mask = source != padding
    start = theirs.config.decoder_start_token_id
    read = shift_right(target, start)
    expected = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=read).logits
    memory = ours.encode(source, mask)
    hidden = ours.decode(read, memory)
    real, size = target != IGNORE, expected.size(-1)
    difference = (ours.logits(hidden)[..., :size] - expected)[real].abs().max()
    assert difference <= 1e-5 * expected[real].abs().max()
    wanted = torch.nn.functional.cross_entropy(expected[real], target[real])
    loss = ours.loss(hidden, target)
    torch.testing.assert_close(loss.total / loss.count, wanted, rtol=1e-5, atol=1e-5)
    wanted.backward()
    (loss.total / loss.count).backward()


def assert_same_gradients(theirs: Any, ours: Any, folder: Path, but_row: int | None = None) -> None:
    """Compare the gradient of each parameter, by its name in the table.

    Their embedding gives padding no gradient where it is read: `but_row` leaves its row out where a decoder begins with
    it, as Marian's does.
    """
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    family = find_family(Folder(str(folder)))
    named = {family.rename(name): name for name in expected}
    found = dict(family.table().names(of_gradients(ours)))
    assert found.keys() - {"final_logits_bias"} == named.keys()
    for name, original in named.items():
        gradient = expected[original]
        if name == "shared.weight" and but_row is not None:
            gradient[but_row] = found[name][but_row]
        torch.testing.assert_close(found[name][: len(gradient)], gradient, rtol=1e-4, atol=1e-5, msg=name)


def assert_names_round_trip(theirs: Any, ours: Any, folder: Path) -> None:
    """Compare the weights that the table names with those that were read."""
    family = find_family(Folder(str(folder)))
    expected = {family.rename(name): tensor for name, tensor in theirs.state_dict().items()}
    found = dict(family.table().names(ours))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name].reshape(tensor.shape), rtol=0, atol=0, msg=name)
    tied = set(family.table().copies or ())
    left = {name for name in expected.keys() - found.keys() - tied if "embed_positions" not in name}
    assert not left


def assert_same_texts(
    theirs: Any, model: Any, sources: list[list[int]], decoding: Decoding, prefix: list[int], **generation: Any
) -> None:
    """Compare the texts that both find for sources, batch by batch, except those that one of them cuts at its limit.

    A forced end costs nothing there, and has the model's own probability here.
    """
    tokenizer, alike, whole = model.tokenizer, 0, 0
    for begin in range(0, len(sources), 100):
        source = pad(sources[begin : begin + 100], tokenizer.pad_id)
        mask = source != tokenizer.pad_id
        expected = theirs.generate(source, attention_mask=mask.long(), **generation)
        memory = model.backbone.encode(source, mask)
        found = search(
            model.backbone, memory, decoding, tokenizer.decoder_start_id, tokenizer.eos_id, tokenizer.suppress_tokens,
            [prefix] * len(source),
        )  # fmt: skip
        for row, several in zip(expected.tolist(), found, strict=True):
            text = _until(row[1:], tokenizer.eos_id)
            if text is not None and max(len(text), len(several[0].tokens)) + 1 < decoding.max_length:
                whole += 1
                alike += several[0].tokens == text
    assert whole > len(sources) // 2, "too many texts are cut off: the comparison says nothing"
    assert alike == whole


def _until(row: list[int], end: int) -> list[int] | None:
    """Return a text without its end and what follows, None if it has none."""
    return row[: row.index(end)] if end in row else None
