"""Family: what models of one architecture have in common, whoever trained them. One subclass a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar, Literal, NoReturn

from torch import Tensor

from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError, one_line
from lmtasks.pretrained.folder import Folder
from lmtasks.pretrained.heads import TrainedHead
from lmtasks.pretrained.table import Table
from lmtasks.tasks.base import Task
from lmtasks.text.base import BaseTokenizer

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}  # their name -> ours
EARLY_STOP: dict[Any, Literal["exact", "beam"]] = {True: "beam", "never": "exact"}  # their early_stopping -> ours


class Family(ABC):
    """The model in a folder, as one of its family."""

    model_types: ClassVar[tuple[str, ...]]
    """What config.json calls the architectures of the family."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.config = folder, folder.config

    @abstractmethod
    def settings(self) -> TransformerConfig:
        """Translate config.json into the settings of our Transformer.

        Raises: InputError if it asks for what our Transformer does not do.
        """

    @abstractmethod
    def table(self) -> Table:
        """Return the names of its weights."""

    @abstractmethod
    def tokenizer(self) -> BaseTokenizer:
        """Return its tokenizer, with its framing.

        Raises: InputError if its files are missing or damaged.
        """

    @cached_property
    def own_tokenizer(self) -> BaseTokenizer:
        """Its tokenizer, read once."""
        return self.tokenizer()

    def rename(self, name: str) -> str:
        """Return a name of the weights file as the table has it: without what a class puts before all names."""
        return name

    def tensors(self) -> AbstractContextManager[Mapping[str, Tensor]]:
        """Open its weights, which are read one at a time.

        Raises: InputError if there are none, or they cannot be read, inside the context too.
        """
        return self.folder.tensors()

    def tasks(self) -> dict[str, Task]:
        """Return what the model does without further training."""
        return {name: head.task for name, head in self.heads().items()}

    def heads(self) -> dict[str, TrainedHead]:
        """Return the heads of these tasks that have weights of their own."""
        return {}

    def decoding(self) -> Decoding:
        """Return the settings of generation that come with the model. Raises: InputError if they cannot be used."""
        given = self.folder.generation
        try:
            return decoding_of(given)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"its settings of generation: {one_line(error)}; mend generation_config.json") from error

    def generated(self, name: str, default: Any) -> Any:
        """Return a setting of generation; null stands for the default."""
        value = self.folder.generation.get(name)
        return default if value is None else value

    def suppressed(self, *always: int) -> tuple[int, ...]:
        """Return the ids that are never generated: those of `always`, and the bad words of the model.

        Raises: InputError if a bad word has several tokens.
        """
        words = self.generated("bad_words_ids", [])
        if any(len(word) != 1 for word in words):
            raise InputError(
                f"{self.folder.name}: bad_words_ids has a word of several tokens, and lmtasks bans single tokens only"
            )
        return tuple(dict.fromkeys([*always, *(word[0] for word in words), *self.generated("suppress_tokens", [])]))

    def setting(self, name: str, least: int = 1) -> int:
        """Return a size that config.json gives. Raises: InputError if it is missing, or no number from `least`."""
        if (value := self.config.get(name)) is None:
            raise InputError(f"config.json has no {name}, which a {self.folder.model_type} needs")
        if type(value) is not int or value < least:
            raise InputError(f"config.json has {name} {value!r}, expected a number from {least}")
        return value

    def choice(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """Return our word for a setting that is one of several. Raises: InputError if it is none of the known ones."""
        value = self.config.get(name, default)
        if value not in known:
            self.refuse(name, known)
        return known[value]

    def refuse(self, name: str, wanted: Collection[Any]) -> NoReturn:
        """Raise the InputError for a setting that our Transformer does not have."""
        given, several = self.config.get(name), " or ".join(map(str, wanted))
        raise InputError(f"config.json has {name} {given!r}, and lmtasks reads {several} only")


def decoding_of(generation: Mapping[str, Any]) -> Decoding:
    """Translate settings of generation, by the names that transformers gives them.

    Their max_length counts the token that the decoder begins with, ours does not; without one, their 20 would cut most
    texts off, and ours holds.
    """
    beam = 1 if generation.get("do_sample") else int(generation.get("num_beams") or 1)
    longest = generation.get("max_new_tokens") or int(generation.get("max_length") or Decoding.max_length + 1) - 1
    drawn = {"temperature": float, "top_k": int, "top_p": float} if generation.get("do_sample") else {}
    return Decoding(
        beam=beam,
        length_penalty=float(generation.get("length_penalty") or 1.0),
        max_length=int(longest),
        max_ratio=0.0,
        min_length=int(generation.get("min_length") or 0),
        early_stop=EARLY_STOP.get(generation.get("early_stopping", False), "estimate"),
        sample=bool(generation.get("do_sample")),
        repetition_penalty=float(generation.get("repetition_penalty") or 1.0),
        no_repeat_ngram=int(generation.get("no_repeat_ngram_size") or 0),
        **{name: number(generation[name]) for name, number in drawn.items() if generation.get(name) is not None},
    )
