"""Write folders and weights: whole or not at all, and readable by those whom the umask lets read."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def replacing(folder: Path, names: Collection[str] | None = None, writer: str = "") -> Iterator[Path]:
    """Yield an empty folder to fill, which then takes the place of `folder`; if anything fails, the old one stays.

    `names` are those of the files that are replaced: others that lie in the old folder stay. None = all go. `writer`
    keeps processes apart that may write it at the same time. A kill at any moment leaves the old folder or the new one.

    A link to a folder stays, and the folder that it leads to is replaced.
    """
    folder = folder.resolve()
    part, old = (folder.with_name(f".{folder.name}{writer}.{ending}") for ending in ("part", "old"))
    if interrupted(folder, writer) == old:
        old.rename(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if names is not None and folder.exists():
            for path in [path for path in folder.iterdir() if path.name not in names]:
                _link(path, part / path.name)
        if not _exchange(part, folder):
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)  # a kill here leaves the old one: see `interrupted`
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def interrupted(folder: Path, writer: str = "") -> Path:
    """Return the folder, or the old one where a kill has come between two renames of `replacing`."""
    old = folder.with_name(f".{folder.name}{writer}.old") if folder.name else folder
    return old if old.is_dir() and not folder.exists() else folder


def _exchange(one: Path, two: Path) -> bool:
    """Let two folders change places in one step; tell whether they did, which not every file system can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    return rename is not None and rename(HERE, os.fsencode(one), HERE, os.fsencode(two), EXCHANGE) == 0


def _link(source: Path, target: Path) -> None:
    """Give a file, or all files of a folder, a second name, or a copy where there are no hard links."""
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, which the package makes readable by its owner alone.

    Tensors that share memory, as a layer with two names does, are written once for each name.
    """
    plain: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        plain[name] = own.clone() if own.untyped_storage().data_ptr() in memory else own
        memory.add(own.untyped_storage().data_ptr())
    save_file(plain, path, None if metadata is None else dict(metadata))
    probe = path.with_name(f".{path.name}.mode")
    probe.touch()
    path.chmod(probe.stat().st_mode)
    probe.unlink()
