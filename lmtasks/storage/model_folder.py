"""A trained model on disk: write a model folder, and load a model from it or from a checkpoint.

The folder holds config.json (settings), model.safetensors (weights), tokenizer.json, metrics.json and README.md
(model card), and SHA256SUMS, which every reader checks. Beside the merged weights of a model with an adapter lies
adapter.safetensors. Nothing is ever unpickled: checkpoints are read with weights_only=True.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import torch

import lmtasks
from lmtasks.adapters import save_adapter
from lmtasks.backbones.lora import installed
from lmtasks.errors import InputError
from lmtasks.export.exported import check_engine, describe_export, is_export, open_export, write_export
from lmtasks.model import Model, default_dtype
from lmtasks.settings import from_plain
from lmtasks.storage import ADAPTER, CARD, CONFIG, FILES, KEPT_EXPORTS, METRICS, MODEL, TOKENIZER, WEIGHTS, is_hub_id
from lmtasks.storage.card import model_card
from lmtasks.storage.checkpoint import find_model, read
from lmtasks.storage.checksums import check_sums, read_sums, write_sums
from lmtasks.storage.reading import read_json, refusing
from lmtasks.storage.writing import replacing, save_tensors

OWN = ("tasks", "backbone", "decoding")  # settings that a model in use needs; the others are those of training


def save(model: Model, folder: str | Path, metrics: Mapping[str, float] | None = None) -> Path:
    """Write a trained model as a model folder and return its path.

    The weights are merged with the adapter in use, if there is one, and that is written beside them. An existing model
    folder is replaced; other files in it stay.

    Raises: InputError if `folder` is something other than a model folder, or the model has no tokenizer yet.
    """
    folder = Path(folder)
    taken = folder.is_file() or (folder.exists() and any(folder.iterdir()))
    if taken and not _is_model_folder(folder):
        raise InputError(f"{folder} is no model folder, and a model would take its place; choose a folder that is new")
    described, metrics = model.describe(), dict(metrics or {})
    config = {name: described[name] for name in ("format", "tokenizer_class")} | described["settings"]
    kept = {"scores": metrics, "signatures": model.signatures, "story": model.story.plain()}
    texts = {
        CONFIG: json.dumps(config, indent=2, ensure_ascii=False) + "\n",
        TOKENIZER: described["tokenizer"],
        METRICS: json.dumps(kept, indent=2, ensure_ascii=False) + "\n",
        CARD: model_card(model, _name(folder), metrics),
    }
    with replacing(folder, FILES) as part:  # a crash while writing leaves the old model
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8")
        save_tensors(model.weights(), part / WEIGHTS, {"format": "pt"})
        if installed(model):
            save_adapter(model, part / ADAPTER)
        write_sums(part)
    return folder


def load(
    path: str | Path,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    engine: str | None = None,
    precision: str | None = None,
) -> Model:
    """Load a model folder, a run folder (its model, else its last checkpoint), a .ckpt or an export, ready for use.

    For a pretrained model it may be its folder, or the id on the Hugging Face hub (OWNER/MODEL). `dtype`
    is that of the weights: with torch.bfloat16 they take half of the memory, also while they are read.

    `engine` lets "ct2" (CTranslate2) or "onnx" (ONNX Runtime) compute, with weights of `precision`: float32, by
    default, or int8, ct2 also float16 and bfloat16. What it reads is kept in the model folder, and written again when
    the model has changed. An export names its engine itself.

    The model needs no trainer; `TaskModule.of` turns it into a module that a trainer takes.

    Raises: InputError if there is no model at `path`, it is damaged or cannot be used, there is no such device, or the
    engine cannot express the model.
    """
    if engine is not None or is_export(path):
        if dtype is not None:
            raise InputError("dtype is for models in torch; an engine has precision")
        return open_export(_export_of(Path(path), engine, precision), device)
    if precision is not None:
        raise InputError(f"precision {precision!r} is of an engine; give one: ct2 or onnx")
    own = find_own(path)
    if own is not None and is_export(own):  # on the hub
        return open_export(own, device)
    if own is None:
        from lmtasks.pretrained.pretrained import open_model  # what loads our own models does without it

        model = open_model(str(path), dtype=dtype)
    else:
        model = _load_own(own, dtype)
    try:
        present = torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError):  # the latter where PyTorch was built without CUDA
        raise InputError(f"there is no device {device!r} here; give cpu, or cuda, cuda:1, mps where one is") from None
    return model.to(present).eval()  # not above: a device without enough memory raises RuntimeError too


def find_own(path: str | Path, revision: str | None = None) -> Path | None:
    """Return the model folder, checkpoint or export that a path means; None if it is of others.

    What is on the hub is downloaded, of a branch, tag or commit if that is given.

    Raises: InputError if there is no model at `path`.
    """
    if is_export(path):
        return Path(path)
    if not is_foreign(path):
        return find_model(path)
    if Path(path).exists():
        return None
    from lmtasks.pretrained.folder import Folder

    return Folder(str(path), revision).own_model()


def is_foreign(path: str | Path) -> bool:
    """Tell whether a path means a pretrained model: an id on the hub, or a folder in the layout of its makers.

    Raises: InputError if the folder cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return is_hub_id(str(path))
    try:
        if not (path / CONFIG).exists():
            return any(path.glob("model*.bin"))  # Marian's own format
        os.stat(path / CONFIG, follow_symlinks=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); change its permissions") from error
    try:
        config = read_json(path / CONFIG)
    except InputError:
        return False
    return "model_type" in config and "tasks" not in config


def _is_model_folder(folder: Path) -> bool:
    """Tell whether a folder holds a model of lmtasks, which another may replace."""
    try:
        return not is_export(folder) and "tasks" in read_json(folder / CONFIG)
    except InputError:
        return False


def _export_of(path: Path, engine: str | None, precision: str | None) -> Path:
    """Return an export of a model: `path` itself, or the one kept in a model folder, written if it is missing or old.

    Raises: InputError if it is of another engine or precision, or `path` is no model folder.
    """
    if is_export(path):
        about = describe_export(path)
        for name, wanted, own in (("engine", engine, about.engine), ("precision", precision, about.precision)):
            if wanted not in (None, own):
                raise InputError(f"{path}: is an export with {name} {own}, not {wanted}; leave {name} out")
        return path
    precision = precision or "float32"
    check_engine(str(engine), precision)
    if is_foreign(path) or (place := find_model(path)).is_file():
        raise InputError(
            f"{path}: an engine takes a model folder, in which its files are kept; save this model as one (lmtasks "
            "import, or lmtasks.save), or export it: lmtasks export"
        )
    kept, source = place / KEPT_EXPORTS / f"{engine}-{precision}", fingerprint(place)
    if linked := [str(path) for path in (kept.parent, kept) if path.is_symlink()]:
        raise InputError(f"{linked[0]}: is a link, and files elsewhere would be replaced; delete the link")
    if is_current(kept, source):
        return kept
    try:
        kept.parent.mkdir(exist_ok=True)
        with replacing(kept, writer=f".{os.getpid()}-{threading.get_ident()}") as part:
            write_export(_load_own(place, None), str(engine), part, precision, source)
    except OSError as error:
        if not is_current(kept, source):  # another process has written it meanwhile
            problem = f"cannot be written ({error.strerror}); export the model to another folder: lmtasks export"
            raise InputError(f"{kept}: {problem}") from error
    return kept


def is_current(kept: Path, source: str) -> bool:
    """Tell whether there is a whole export of the model that has this fingerprint, which this version can read."""
    try:
        files = read_sums(kept)
        check_sums(kept, files)
        return describe_export(kept).source == source and all((kept / name).is_file() for name in files)
    except InputError:
        return False


def fingerprint(folder: Path) -> str:
    """Return a hash of all that decides the answers of a model folder, and of the version of lmtasks."""
    digest = hashlib.sha256(lmtasks.__version__.encode())
    with refusing(folder, "not a whole model folder"):
        for name in (CONFIG, TOKENIZER, WEIGHTS):
            with (folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load_own(place: Path, dtype: torch.dtype | None) -> Model:
    """Return the model in a model folder or a checkpoint."""
    saved = read(place)
    with refusing(place):
        own = {name: from_plain(plain) for name, plain in saved.settings.items() if name in OWN}
        # The settings of training stay plain data: they may name classes that are not installed here.
        model = Model(**own, training={name: plain for name, plain in saved.settings.items() if name not in OWN})
        tokenizer = saved.build_tokenizer()
        model.check_sizes(tokenizer, saved.weights)
        with default_dtype(dtype):
            model.build(tokenizer)
        model.load_weights(saved.weights)
        model.story = saved.story
    return model


def _name(folder: Path) -> str:
    """Return what a model is called: by its folder, or by that of its run."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == MODEL else folder.name
