"""`lmtasks import`: save a pretrained model as a model folder, which no longer needs the original."""

from __future__ import annotations

import argparse

HELP = "save a pretrained model, from a folder or the Hugging Face hub, as a model folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of the model, or its id on the Hugging Face hub")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="model folder to write")
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit on the hub (default: main)")


def run(arguments: argparse.Namespace) -> int:
    """Save the model, print how to try it, and return the exit status."""
    from lmtasks.pretrained.pretrained import open_model
    from lmtasks.storage import is_hub_id
    from lmtasks.storage.checkpoint import read_metrics
    from lmtasks.storage.model_folder import find_own, load, save

    own = find_own(arguments.model, arguments.revision) if is_hub_id(arguments.model) else None
    model = open_model(arguments.model, arguments.revision) if own is None else load(own)
    folder = save(model, arguments.output, read_metrics(own).get("scores") if own else None)
    print("\n".join(model.example_commands(folder)))
    return 0
