"""Write folders and weights: whole or not at all, and readable by those whom the umask lets read."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def replacing(folder: Path, names: Collection[str] | None = None, writer: str = "") -> Iterator[Path]:
    """Yield an empty folder to fill, which then takes the place of `folder`; if anything fails, the old one stays.

    `names` are those of the files that are replaced: others that lie in the old folder stay. None = all go. `writer`
    keeps processes apart that may write it at the same time.
    """
    part, old = (folder.with_name(f".{folder.name}{writer}.{ending}") for ending in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if names is not None and old.exists():
        for path in [path for path in old.iterdir() if path.name not in names]:
            path.rename(folder / path.name)
    shutil.rmtree(old, ignore_errors=True)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, which the package makes readable by its owner alone."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, None if metadata is None else dict(metadata))
    probe = path.with_name(f".{path.name}.mode")
    probe.touch()
    path.chmod(probe.stat().st_mode)
    probe.unlink()
