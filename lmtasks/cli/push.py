"""`lmtasks push`: upload a model folder, or an export, to the Hugging Face hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from lmtasks.errors import InputError, one_line
from lmtasks.storage import EXPORT, FILES, HUB_ID, is_hub_id
from lmtasks.story import count

NEVER = (  # files and folders that are hidden or hold states of a training
    ".*", "*.ckpt", "checkpoint*", "optimizer*", "scheduler*", "rng_state*", "trainer_state*", "training_args*",
)  # fmt: skip
REASON = 200  # characters of the message of another package
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
    print(f"{count(len(files), 'file')}, {size:,.1f} MB: {', '.join(files)}")
    print(upload(folder, files, arguments.name, arguments.private, arguments.revision, arguments.message))
    return 0


def files_of(path: Path) -> tuple[Path, list[str]]:
    """Return the folder to upload and the names of its files: never checkpoints, optimiser states or hidden files.

    Raises: InputError if there is no model folder, no export and no model of others at `path`.
    """
    from lmtasks.storage.checkpoint import find_model
    from lmtasks.storage.model_folder import is_foreign

    if is_hub_id(str(path)):
        raise InputError(f"{path}: there is no such folder here; give a folder, and then the name on the hub")
    if (path / EXPORT).is_file() or (path.is_dir() and is_foreign(path)):
        names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
        unwanted = [name for name in names if any(fnmatch(part, each) for part in name.parts for each in NEVER)]
        return path, [name.as_posix() for name in names if name not in unwanted]
    place = find_model(path)
    if place.is_file():
        raise InputError(f"{place}: is a checkpoint, which holds the state of a training; give a model folder")
    return place, sorted(file.name for file in place.iterdir() if file.name in FILES)


def upload(folder: Path, files: Sequence[str], name: str, private: bool, revision: str | None, message: str) -> str:
    """Upload files of a folder in one commit and return the address of the model.

    Files by which an earlier upload would be taken for the model are deleted in the same commit.

    Raises: InputError if there is no token or no network, or the hub does not take them.
    """
    import huggingface_hub as hub

    from lmtasks.hub import why_no_answer

    if hub.get_token() is None:
        raise InputError("there is no token of the Hugging Face hub here; log in by hf auth login, or set HF_TOKEN")
    if silence := why_no_answer():
        raise InputError(f"{name}: the Hugging Face hub cannot be reached ({silence})")
    api, added = hub.HfApi(library_name="lmtasks"), [hub.CommitOperationAdd(each, folder / each) for each in files]
    try:
        api.create_repo(name, private=private, exist_ok=True)
        if revision:
            api.create_branch(name, branch=revision, exist_ok=True)
        present = api.list_repo_files(name, revision=revision)
        stale = [hub.CommitOperationDelete(each) for each in (*FILES, EXPORT) if each in present and each not in files]
        api.create_commit(name, [*added, *stale], commit_message=message, revision=revision)
    except Exception as error:  # the errors of the hub, and of the network below it, have no common base
        status: int = getattr(getattr(error, "response", None), "status_code", 0)
        owner = name.split("/")[0]
        reason = {
            401: "it does not know the token; log in by hf auth login, or set HF_TOKEN to one that may write",
            403: f"the token may not write there; is {owner} your name, or an organisation for which you may write?",
            404: f"it knows no {owner}, or no such model; is {owner} your name, or an organisation of yours?",
        }.get(status, one_line(error)[:REASON])
        raise InputError(f"{name}: the Hugging Face hub did not take it: {reason}") from error
    return f"{api.endpoint}/{name}" + (f"/tree/{revision}" if revision else "")
