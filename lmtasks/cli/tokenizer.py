"""`lmtasks tokenizer`: train a tokenizer on plain text, or show the pieces into which one cuts a text."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain
from pathlib import Path

from lmtasks.cli.stdin import STDIN, stdin_lines
from lmtasks.data.readers.files import read_lines
from lmtasks.errors import InputError

HELP = "train a tokenizer from lines of text, or show the pieces of a text"

KINDS = ("bpe", "unigram", "character", "byte")  # as in text.pieces, which is slow to import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    inputs_help = "with --output: text files (.gz too), '-' for stdin; with --show: texts (default: the lines of stdin)"
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=inputs_help)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", metavar="FILE", help="train, and write this tokenizer.json")
    what.add_argument("--show", metavar="FILE", help="print the pieces into which this tokenizer.json cuts each text")
    parser.add_argument("--kind", choices=KINDS, default="bpe", help="what a piece is (default: bpe)")
    size_help = "most tokens, special ones included (default: 8000)"
    parser.add_argument("--vocab-size", type=int, default=8000, metavar="N", help=size_help)
    parser.add_argument("--languages", default="", metavar="CODES", help="languages that get a tag, such as de,fr")


def run(arguments: argparse.Namespace) -> int:
    """Write a tokenizer and print its path; or print for each text its pieces, as a JSON list that shows blanks."""
    from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig

    if arguments.show:
        tokenizer = Tokenizer.load(arguments.show)
        for text in arguments.inputs or stdin_lines():
            print(json.dumps(tokenizer.pieces(tokenizer.encode(text)), ensure_ascii=False), flush=True)
        return 0
    if not arguments.inputs:
        raise InputError("no file to train from; name text files, or - for stdin")
    if not Path(arguments.output).parent.is_dir():
        raise InputError(f"{arguments.output}: there is no folder {Path(arguments.output).parent}; make it first")
    languages = [code.strip() for code in arguments.languages.split(",") if code.strip()]
    config = TokenizerConfig(kind=arguments.kind, vocab_size=arguments.vocab_size)
    lines = chain.from_iterable(stdin_lines() if path == STDIN else read_lines(path) for path in arguments.inputs)
    tokenizer = Tokenizer.train(lines, config, languages)
    tokenizer.save(arguments.output)
    print(f"{len(tokenizer)} tokens ({tokenizer.kind})", file=sys.stderr)
    print(arguments.output)
    return 0
