"""`lmtasks push`: upload a model folder, or an export, to the Hugging Face hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lmtasks.errors import InputError, one_line
from lmtasks.storage import EXPORT, FILES, HUB_ID

HELP = "upload a model folder or an export to the Hugging Face hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="run folder, model folder, or a folder that export wrote")
    parser.add_argument("name", metavar="OWNER/NAME", help="what it is called on the hub; it is made if it is new")
    parser.add_argument("--private", action="store_true", help="let nobody else see it, if it is new")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to upload to (default: main)")
    parser.add_argument("--message", metavar="TEXT", default="Upload by lmtasks push", help="message of the commit")


def run(arguments: argparse.Namespace) -> int:
    """Upload the files, print where they are, and return the exit status."""
    if not HUB_ID.fullmatch(arguments.name):
        raise InputError(f"{arguments.name!r} is no name on the hub; write OWNER/NAME, such as anna/en-de-captions")
    folder, files = files_of(Path(arguments.model))
    size = sum((folder / name).stat().st_size for name in files) / 1e6
    print(f"{len(files)} files, {size:,.1f} MB: {', '.join(files)}")
    address = upload(folder, files, arguments.name, arguments.private, arguments.revision, arguments.message)
    print(address)
    return 0


def files_of(path: Path) -> tuple[Path, list[str]]:
    """Return the folder to upload and the names of its files: never checkpoints or what else lies there.

    Raises: InputError if there is no model folder or export at `path`.
    """
    from lmtasks.storage.checkpoint import find_model
    from lmtasks.storage.model_folder import is_foreign

    if (path / EXPORT).is_file() or (path.is_dir() and is_foreign(path)):
        found = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        return path, [name for name in found if not name.startswith(".")]
    place = find_model(path)
    if place.is_file():
        raise InputError(f"{place}: is a checkpoint, which holds the state of a training; give a model folder")
    return place, sorted(file.name for file in place.iterdir() if file.name in FILES)


def upload(folder: Path, files: Sequence[str], name: str, private: bool, revision: str | None, message: str) -> str:
    """Upload files of a folder and return the address of the model.

    Raises: InputError if the hub does not take them.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="lmtasks")
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision:
            api.create_branch(name, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(files), revision=revision, commit_message=message
        )
    except Exception as error:  # the errors of the hub, and of the network below it, have no common base
        needs = "it needs a network, and a token that may write: hf auth login, or HF_TOKEN"
        raise InputError(f"{name}: the hub did not take it ({one_line(error)[:200]}); {needs}") from error
    return f"{api.endpoint}/{name}"
