"""Damage to files: bytes that are flipped, cut and moved; values that are dropped, renamed and of another type."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 1.5, -0.5, 1e308, float("nan"), float("inf"), 2**20, 2**31, 2**63, 10**40, "", "x",
    "Pretrained", "os.system", "../x", "\ud800", "\x00", "é" * 1000, [], [1], ["x"], [[[[[]]]]], {}, {"x": 1},
    {"class_path": "Decoding"}, {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}, {"class_path": 3},
]  # fmt: skip


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """Return bytes with one to four faults."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(found) + 1), draw.choice([1, 1, 2, 8, 100, 4000])
        block = found[place : place + length]
        match draw.randrange(6):
            case 0 | 1 if place < len(found):
                found[place] ^= 1 << draw.randrange(8)
            case 2:
                del found[place : place + length]
            case 3:
                found[place : place + length] = bytes(len(block))
            case 4:
                found[place:place] = block or draw.randbytes(length)
            case _:
                del found[place:]
    return bytes(found)


def damaged_values(plain: Any, draw: random.Random) -> Any:
    """Return plain data in which one to three values are dropped, renamed or others."""
    found = copy.deepcopy(plain)
    for _ in range(draw.randint(1, 3)):
        places = [*_places(found)]
        if not places:
            return draw.choice(VALUES)
        owner, key = draw.choice(places)
        match draw.randrange(6):
            case 0:
                del owner[key]
            case 1 if isinstance(owner, dict):
                owner[draw.choice(["x", "class_path", "init_args", "tasks", 3])] = owner.pop(key)
            case 2 if isinstance(owner[key], int | float) and not isinstance(owner[key], bool):
                owner[key] = draw.choice([-owner[key], owner[key] * 10, owner[key] + 1, float(owner[key])])
            case 3:
                owner[key] = copy.deepcopy(draw.choice(places)[0])
            case _:
                owner[key] = copy.deepcopy(draw.choice(VALUES))
    return found


def damage_text(path: Path, draw: random.Random) -> None:
    """Damage a file that holds bytes of any kind."""
    path.write_bytes(damaged_bytes(path.read_bytes(), draw))


def damage_json(path: Path, draw: random.Random) -> None:
    """Damage a JSON file, in three cases of four so that it is JSON still."""
    if draw.randrange(4) == 0:
        return damage_text(path, draw)
    text = json.dumps(damaged_values(json.loads(path.read_text(encoding="utf-8")), draw))
    path.write_text(text, encoding="utf-8")


def damage_checkpoint(path: Path, draw: random.Random) -> None:
    """Damage a checkpoint: its bytes, its pickle under a right checksum, or values in it."""
    match draw.randrange(3):
        case 0:
            damage_text(path, draw)
        case 1:
            with zipfile.ZipFile(path) as archive:
                records = {name: archive.read(name) for name in archive.namelist()}
            name = draw.choice([*records, next(name for name in records if name.endswith("data.pkl"))])
            records[name] = damaged_bytes(records[name], draw)
            with zipfile.ZipFile(path, "w") as archive:
                for each, content in records.items():
                    archive.writestr(each, content)
        case _:
            torch.save(damaged_values(torch.load(path, weights_only=True), draw), path)


DAMAGE: dict[str, Callable[[Path, random.Random], None]] = {
    "config.json": damage_json,
    "tokenizer.json": damage_json,
    "metrics.json": damage_json,
    "model.safetensors": damage_text,
    "model.ckpt": damage_checkpoint,
}


def _places(plain: Any) -> Any:
    """Yield (container, key) of each value inside of plain data."""
    pairs = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in list(pairs):
        yield plain, key
        yield from _places(value)
