"""Folder: the files of a model in the layout of the Hugging Face hub, from a folder or from the hub itself.

Nothing in them is executed: weights are read from safetensors, or from .bin files with weights_only=True, and a
config.json that names code of its own is refused.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from lmtasks.errors import InputError, one_line
from lmtasks.hub import why_no_answer
from lmtasks.storage import CHECKSUMS, EXPORT, METRICS, is_hub_id
from lmtasks.storage.reading import is_whole, unpickle

CONFIG, GENERATION, TOKENIZER = "config.json", "generation_config.json", "tokenizer.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
STUDENT = "marian-student"  # the family of a model in Marian's own format, which has no config.json
FILE_NAME = re.compile(r"[\w.-]+")  # of a part of the weights: never a path
REASON = 200  # characters of the message of another package


class Folder:
    """A model of others: its config, and its other files when they are asked for.

    Args:
        name: A folder, or an id on the Hugging Face hub, whose files are downloaded once and cached.
        revision: A branch, tag or commit on the hub; the commit that was found is kept as `revision`.

    Raises: InputError if there is no such folder or id, or its config cannot be used.
    """

    def __init__(self, name: str, revision: str | None = None) -> None:
        self.name, self.revision = name, revision
        with self.naming():
            self._local = Path(name) if Path(name).exists() else None
        if self._local is None and not could_be_hub_id(name):
            raise InputError(f"{name}: there is no such folder; give one, or the id of a model on the Hugging Face hub")
        path = self.path(CONFIG)
        if path is None and self.student_file is not None:
            self.config: dict[str, Any] = {"model_type": STUDENT}
            return
        if path is None and self._local is None and self.path(EXPORT):  # an export to ONNX has no other settings
            self.config = {}
            return
        if path is None:
            raise InputError(f"{name}: there is no {CONFIG} in it; give the folder of a model, or its id on the hub")
        if self._local is None:
            self.revision = path.parent.name  # a snapshot of the cache is called after its commit
        self.config = self._read_json(path)
        if "auto_map" in self.config:
            raise InputError(f"{name}: {CONFIG} names code of its own (auto_map), which lmtasks does not run")

    @property
    def model_type(self) -> str:
        """The family, as config.json calls it; "" where it does not."""
        return str(self.config.get("model_type", ""))

    @cached_property
    def student_file(self) -> Path | None:
        """The weights in Marian's own format, model.NAME.bin in a folder; None if there are none, or several."""
        found = [path for path in self.files(".bin") if path.name.startswith("model")]
        return found[0] if len(found) == 1 else None

    @cached_property
    def generation(self) -> dict[str, Any]:
        """The settings of generation: generation_config.json, and config.json, where older models have them."""
        path = self.path(GENERATION)
        return self.config | (self._read_json(path) if path else {})

    def path(self, file: str) -> Path | None:
        """Return the path of a file, None if the model has none of this name."""
        if self._local is None:
            return self._download(file)
        path = self._local / file
        with self.naming():
            return path if path.is_file() else None

    def content(self, file: str) -> bytes | None:
        """Return the content of a file, None if the model has none of this name."""
        path = self.path(file)
        with self.naming():
            return None if path is None else path.read_bytes()

    def files(self, ending: str) -> list[Path]:
        """Return the files of a folder whose names end so, none of a model on the hub."""
        return [] if self._local is None else sorted(self._local.glob(f"*{ending}"))

    def text(self, file: str) -> str | None:
        """Return the text of a file, None if the model has none of this name."""
        path = self.path(file)
        with self.naming():
            return None if path is None else path.read_text(encoding="utf-8")

    def json(self, file: str) -> dict[str, Any]:
        """Return the content of a JSON file, {} if the model has none of this name."""
        path = self.path(file)
        return self._read_json(path) if path else {}

    @contextmanager
    def tensors(self) -> Iterator[Mapping[str, Tensor]]:
        """Open the weights.

        Raises: InputError if there are none, or they cannot be read, inside the context too.
        """
        file, path = next(((file, path) for file in WEIGHTS if (path := self.path(file))), (None, None))
        if file is None or path is None:
            place = f"its copy in the cache, and the hub cannot be reached: {self.silence}" if self.silence else "it"
            raise InputError(f"{self.name}: there are no weights in {place} ({', '.join(WEIGHTS[:3])})")
        with self.naming():
            if file.endswith("index.json"):
                parts = self._read_json(path)["weight_map"]
                yield Tensors({name: self._part(part) for name, part in parts.items()}, {})
            else:
                weights = _opened(path)
                yield Tensors(dict.fromkeys(weights.keys(), path), {path: weights})

    def own_model(self) -> Path | None:
        """Return where a model folder or an export of lmtasks lies, downloaded; None if it is a model of others.

        Raises: InputError if a file is missing.
        """
        if "tasks" not in self.config:
            export = None if self.model_type or self._local else self.path(EXPORT)
            return self._download_all(export) if export else None
        for file in (METRICS, CHECKSUMS):  # which may be missing
            self.path(file)
        places = [self.path(file) for file in (CONFIG, TOKENIZER, WEIGHTS[0])]
        missing = [file for file, place in zip((CONFIG, TOKENIZER, WEIGHTS[0]), places, strict=True) if place is None]
        if places[0] is None or missing:
            raise InputError(f"{self.name}: is a model folder of lmtasks without {', '.join(missing)}")
        return places[0].parent

    def _part(self, file: str) -> Path:
        """Return the path of a part of the weights."""
        path = self.path(file) if FILE_NAME.fullmatch(file) else None
        if path is None:
            raise InputError(f"{self.name}: the index of its weights names {file!r}, which it does not have")
        return path

    def _read_json(self, path: Path) -> dict[str, Any]:
        with self.naming():
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError(f"{path.name} holds no settings")
            return found

    @cached_property
    def silence(self) -> str:
        """Why the hub does not answer, asked for the first file; "" if it does, or the model is a folder."""
        return why_no_answer() if self._local is None else ""

    def _download(self, file: str) -> Path | None:
        """Return the path of a file in the cache of the hub, downloaded if it is not there and the hub answers."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            found = hf_hub_download(self.name, file, revision=self.revision, local_files_only=bool(self.silence))
            return Path(found)
        except LocalEntryNotFoundError as error:
            export = try_to_load_from_cache(self.name, EXPORT, revision=self.revision)
            if file != CONFIG or isinstance(export, str):  # the cache has the model, and this file is none of it
                return None
            told = self.silence or one_line(error)
            reason = f"the Hugging Face hub cannot be reached ({told}), and its cache lacks the model"
        except EntryNotFoundError:
            return None
        except Exception as error:  # the errors of the hub have no common base
            reason = f"and the hub gave no such model ({one_line(error)})"
        raise InputError(f"{self.name}: there is no such folder here, {reason}")

    def _download_all(self, file: Path) -> Path:
        """Return the folder in the cache of the hub that holds all files beside `file`, which is there."""
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.name, revision=file.parent.name, local_files_only=bool(self.silence)))
        except Exception as error:  # the errors of the hub have no common base
            raise InputError(f"{self.name}: the hub did not give all of its files ({one_line(error)})") from error

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name the model in the error if its files cannot be read, or do not hold what they should."""
        try:
            yield
        except InputError as error:
            if str(error).startswith(self.name):
                raise
            raise InputError(f"{self.name}: {one_line(error)}") from error
        except pickle.UnpicklingError as error:  # its message advises to run what the file holds
            unsafe = "its weights hold more than tensors, or are damaged; lmtasks runs nothing that a file holds"
            raise InputError(f"{self.name}: {unsafe}; get model.safetensors in their place") from error
        except Exception as error:  # what is damaged raises any type, a bare Exception in the package tokenizers
            reason = f"{type(error).__name__}: {one_line(error)}"[:REASON]
            raise InputError(f"{self.name}: cannot be read ({reason}); download or copy it again") from error


class Tensors(Mapping[str, Tensor]):
    """The weights of a model by their names, read one at a time."""

    def __init__(self, places: dict[str, Path], opened: dict[Path, Any]) -> None:
        """Set the file of each tensor, and the files that are open already."""
        self._places, self._open = places, opened

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._places)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor."""
        path = self._places[name]
        if path not in self._open:
            self._open[path] = _opened(path)
        weights = self._open[path]
        return weights[name] if isinstance(weights, dict) else weights.get_tensor(name)


def could_be_hub_id(name: str) -> bool:
    """Tell whether a name that is no path here may be an id on the hub; old models have no owner in theirs."""
    return is_hub_id(name) or FILE_NAME.fullmatch(name) is not None


def _opened(path: Path) -> Any:
    """Return the weights of a file, mapped into memory: a dict of tensors, or what safetensors gives.

    Files of PyTorch before 1.6 are no zip archives, and are read as a whole.
    """
    path.open("rb").close()  # safetensors says of a file that may not be read that there is none
    if path.suffix == ".safetensors":
        return safe_open(path, framework="pt")
    weights = unpickle(path, mmap=zipfile.is_zipfile(path))
    if not isinstance(weights, dict) or not all(map(is_whole, weights.values())):
        raise ValueError(f"{path.name} holds other things than tensors")
    return weights
