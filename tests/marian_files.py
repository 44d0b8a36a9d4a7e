"""Tiny models of Marian: their items, and a writer of its binary format."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TEXT, FLOAT32, INT8 = 0x101, 0x404, 0x4101
SETTINGS: dict[str, Any] = {
    "type": "transformer", "dim-emb": 8, "transformer-heads": 2, "transformer-dim-ffn": 12, "enc-depth": 2,
    "dec-depth": 1, "dec-cell": "ssru", "transformer-decoder-autoreg": "rnn", "transformer-ffn-activation": "relu",
    "transformer-postprocess": "dan", "tied-embeddings-all": True, "output-omit-bias": False,
}  # fmt: skip


def items(**settings: Any) -> dict[str, np.ndarray]:
    """Return random items of a model with these settings and 11 tokens, by Marian's names."""
    given = SETTINGS | settings
    width, inner, draw = given["dim-emb"], given["transformer-dim-ffn"], np.random.default_rng(0)
    shapes = {"Wemb": (11, width), "decoder_ff_logit_out_b": (1, 11)}
    recurs = given["transformer-decoder-autoreg"] == "rnn"
    for side, depth in (("encoder", given["enc-depth"]), ("decoder", given["dec-depth"])):
        for layer in (f"{side}_l{i + 1}" for i in range(depth)):
            attends = [] if recurs and side == "decoder" else ["self"]
            for name in attends + (["context"] if side == "decoder" else []):
                shapes |= {f"{layer}_{name}_W{part}": (width, width) for part in "qkvo"}
                shapes |= {f"{layer}_{name}_b{part}": (1, width) for part in "qkvo"}
                shapes |= {f"{layer}_{name}_Wo_ln_{part}": (1, width) for part in ("scale", "bias")}
            if not attends:
                shapes |= {f"{layer}_rnn_W": (width, width), f"{layer}_rnn_Wf": (width, width)}
                shapes |= {f"{layer}_rnn_bf": (1, width)}
                shapes |= {f"{layer}_rnn_ffn_ln_{part}": (1, width) for part in ("scale", "bias")}
            shapes |= {f"{layer}_ffn_W1": (width, inner), f"{layer}_ffn_b1": (1, inner)}
            shapes |= {f"{layer}_ffn_W2": (inner, width), f"{layer}_ffn_b2": (1, width)}
            shapes |= {f"{layer}_ffn_ffn_ln_{part}": (1, width) for part in ("scale", "bias")}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, arrays: dict[str, np.ndarray], int8: bool = False, **settings: Any) -> Path:
    """Write items as Marian does; with `int8` the matrices are quantised, all but the embedding transposed."""
    text = yaml.safe_dump(SETTINGS | settings).encode() + b"\0"
    rows: list[tuple[str, int, tuple[int, ...], bytes]] = []
    for name, array in arrays.items():
        if int8 and min(array.shape) > 1:
            multiplier = np.float32(127 / np.abs(array).max())
            numbers = np.rint(array * multiplier).astype(np.int8)
            stored = numbers if name == "Wemb" else numbers.T
            rows.append((name, INT8, array.shape, stored.tobytes() + multiplier.tobytes()))
        else:
            rows.append((name, FLOAT32, array.shape, array.astype("<f4").tobytes()))
    rows.append(("special:model.yml", TEXT, (len(text),), text))
    return write_rows(path, rows)


def write_rows(path: Path, rows: list[tuple[str, int, tuple[int, ...], bytes]], version: int = 1) -> Path:
    """Write items (name, type, shape, data); data are padded to 256 bytes."""
    padded = [data + bytes(-len(data) % 256) for *_, data in rows]
    head = struct.pack("<QQ", version, len(rows))
    for (name, kind, shape, _), data in zip(rows, padded, strict=True):
        head += struct.pack("<QQQQ", len(name.encode()) + 1, kind, len(shape), len(data))
    head += b"".join(name.encode() + b"\0" for name, *_ in rows)
    head += b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in rows)
    skip = -(len(head) + 8) % 256
    path.write_bytes(head + struct.pack("<Q", skip) + bytes(skip) + b"".join(padded))
    return path
