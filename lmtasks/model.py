"""Model: what a trained thing is. Tokenizer, tasks, backbone and heads, built from settings; plain PyTorch.

`TaskModule` is a Model that Lightning trains. What `lmtasks.load` returns is a Model and needs no trainer.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lmtasks.adapters import Adapter, read_adapter
from lmtasks.backbones.base import Backbone, BackboneConfig
from lmtasks.backbones.lora import installed, merged, put, take_out
from lmtasks.checked import CheckedArguments
from lmtasks.data.limits import check_limits
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.finite import check_finite
from lmtasks.predict import Predictor, TaskMethods
from lmtasks.settings import FORMAT, public_name, to_plain
from lmtasks.storage.reading import refusing
from lmtasks.story import Story
from lmtasks.tasks.base import Answer, Row, Task
from lmtasks.text.base import BaseTokenizer

NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a task: it becomes part of the names of parameters, scores and options
AnyModule = TypeVar("AnyModule", bound=nn.Module)
BUILDING = threading.Lock()  # the default type of numbers is one for all threads
DRAWS = {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_", "orthogonal_"}  # first weights
MOST_LAYERS = 1000  # of a model with fewer weights than that, whose layers share them
MOST_TABLES = 2**29  # bytes of the tables that are computed and not saved
PARTS = ("backbone.", "heads.")  # how the names of a model's weights begin; others are for training only


class Model(CheckedArguments, TaskMethods, nn.Module):
    """One or several tasks on one backbone, each with a head of its own.

    Args:
        tasks: What it does, {name: task}.
        backbone: Architecture and sizes.
        decoding: How answers are searched.
        training: The settings of its training as plain data, which are kept and not read.

    Example:
        >>> from lmtasks import ClassificationTask, Model, Tokenizer, TokenizerConfig, TransformerConfig
        >>> model = Model({"mood": ClassificationTask(labels=("bad", "good"))}, TransformerConfig(d_model=64))
        >>> model.build(Tokenizer.train([], TokenizerConfig("byte")))
        >>> model.classify("A fine day.") in ("bad", "good")
        True
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        backbone: BackboneConfig,
        decoding: Decoding = Decoding(),
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if wrong := [name for name in tasks if not NAME.fullmatch(name)]:
            raise InputError(f"model.tasks: a task cannot be called {wrong[0]!r}; use letters, digits, - and _")
        parts = [("backbone", backbone, BackboneConfig), ("decoding", decoding, Decoding)]
        for name, part, kind in [*parts, *((f"tasks.{name}", task, Task) for name, task in tasks.items())]:
            if not isinstance(part, kind):
                raise InputError(f"model.{name} is a {type(part).__name__}, expected a {kind.__name__}")
        self.tasks = dict(tasks)
        self.backbone_config, self.origin = backbone.resolve()
        self.decoding = decoding
        self._training_settings = dict(training or {})
        self.tokenizer: BaseTokenizer | None = None
        self.backbone: Backbone | None = None
        self.heads = nn.ModuleDict()
        self.story = Story()
        self._adapters: dict[str | None, Adapter] = {}  # None: what the model is without one
        self._adapter: str | None = None  # the one in use

    @property
    def task(self) -> Task:
        """The only task."""
        (task,) = self.tasks.values()
        return task

    @property
    def training_settings(self) -> dict[str, Any]:
        """The settings of its training as plain data."""
        return self._training_settings

    @property
    def signatures(self) -> dict[str, str]:
        """How each score is computed, task/metric -> signature, so that others can repeat it."""
        signed = {name: task.signatures() for name, task in self.tasks.items()}
        return {f"{name}/{metric}": text for name, several in signed.items() for metric, text in several.items()}

    def describe(self) -> dict[str, Any]:
        """Return format, settings and tokenizer as plain data, from which the layers can be built again.

        Raises: InputError if the model has no tokenizer yet.
        """
        if self.tokenizer is None:
            raise InputError("the model has no tokenizer yet; fit it, load one, or call build(tokenizer)")
        own = to_plain({"tasks": self.tasks, "backbone": self.backbone_config, "decoding": self.decoding})
        return {"format": FORMAT, "settings": own | self.training_settings, **self.tokenizer.to_plain()}

    @property
    def token_names(self) -> tuple[list[str], list[str]]:
        """The languages and the marks for which the vocabulary needs tokens."""
        languages = [language for task in self.tasks.values() for language in task.languages]
        marks = [mark for task in self.tasks.values() for mark in task.marks]
        return list(dict.fromkeys(languages)), list(dict.fromkeys([*marks, *start_marks(self.tasks).values()]))

    def build(self, tokenizer: BaseTokenizer | None = None) -> None:
        """Build backbone and heads for a tokenizer, by default that of a pretrained backbone.

        Raises: InputError if a task reads more tokens at once than the backbone can, or there is no tokenizer.
        """
        if tokenizer is None:
            if self.origin is None:
                raise InputError("a backbone that is not pretrained brings no tokenizer; give one to build")
            tokenizer = self.origin.tokenizer(*self.token_names)
        check_limits(self.tasks, self.backbone_config)
        if torch.get_default_dtype() == torch.float16 and self.backbone_config.overflows_in_float16:
            raise InputError("the states of a T5 exceed the largest number of float16; give torch.bfloat16 as dtype")
        backbone = self.backbone_config.build(len(tokenizer))
        if self.origin:
            self.origin.initialise(backbone, self.backbone_config, tokenizer)
        self.install(backbone, tokenizer)

    def check_sizes(self, tokenizer: BaseTokenizer, weights: Mapping[str, Tensor]) -> None:
        """Check that the layers that the settings ask for have the sizes of these weights, before memory is taken.

        They are built on the device meta, as shapes alone, but for heads of a user's own tasks.

        Raises: InputError if a size differs.
        """
        config, heads = self.backbone_config, (getattr(task, "layers", 0) for task in self.tasks.values())
        layers = max(config.encoder_layers + config.decoder_layers, *heads)
        if layers > max(len(weights), MOST_LAYERS):  # each would take its time
            raise InputError(f"settings and weights do not fit: {layers:,} layers, but {len(weights):,} weights")
        tasks = {name: task for name, task in self.tasks.items() if type(task).__module__.startswith("lmtasks.")}
        with drafting():
            self.install(config.build(len(tokenizer)), tokenizer, tasks)
        own = tuple(f"heads.{name}." for name in self.tasks.keys() - tasks.keys())
        given = {name: each for name, each in weights.items() if name.startswith(PARTS) and not name.startswith(own)}
        drafted = {name: each for name, each in self.state_dict().items() if name.startswith(PARTS)}
        check_shapes(drafted, given)
        check_tables(self)

    def install(self, backbone: Backbone, tokenizer: BaseTokenizer, tasks: Mapping[str, Task] | None = None) -> None:
        """Take a backbone that is built, and the tokenizer that it was built for, and build a head for each task."""
        self.tokenizer, self.backbone = tokenizer, backbone
        self.heads = self._heads_of(self.tasks if tasks is None else tasks)

    def _heads_of(self, tasks: Mapping[str, Task]) -> nn.ModuleDict:
        """Return a fresh head for each task."""
        backbone, tokenizer = self.built()
        marks, heads = start_marks(tasks), nn.ModuleDict()
        for name, task in tasks.items():
            head = heads[name] = task.head(tokenizer, backbone.d_model)
            if name in marks:
                head.begin_with(tokenizer.mark(marks[name]))
        return heads

    def example_commands(self, folder: str | Path) -> list[str]:
        """Return a command for each task that tries it, with the model in `folder`."""
        classes = [public_name(type(own)) for own in (*self.tasks.values(), self.backbone_config)]
        modules = {name.rpartition(".")[0] for name in classes} - {"", "__main__"}  # those of a user's own classes
        imports = "".join(f" --import {module}" for module in sorted(modules))
        names = {name: f" --task {name}" if len(self.tasks) > 1 else "" for name in self.tasks}
        return [
            f"lmtasks run {folder}{imports}{names[name]} {task.example_command}" for name, task in self.tasks.items()
        ]

    def built(self) -> tuple[Backbone, BaseTokenizer]:
        """Return backbone and tokenizer.

        Raises: InputError if the model has no layers yet.
        """
        if self.backbone is None or self.tokenizer is None:
            raise InputError("the model has no layers yet; fit it, load one, or call build(tokenizer)")
        return self.backbone, self.tokenizer

    # Use: a predictor holds everything an answer needs, and is safe to share between threads.

    def predictor(self) -> Predictor:
        """Return what answers rows with the weights of this model, without dropout, whatever mode the model is in.

        They share the parameters: later training changes the answers too.

        Raises: InputError if the model has no layers yet.
        """
        backbone, tokenizer = self.built()
        return Predictor(self.tasks, tokenizer, _in_eval_mode(backbone), _in_eval_mode(self.heads), self.decoding)

    def _predictor(self) -> Predictor:
        """Return a predictor for one call, with the modules themselves where their mode allows it."""
        backbone, tokenizer = self.built()
        if self.training:
            return self.predictor()
        return Predictor(self.tasks, tokenizer, backbone, self.heads, self.decoding)

    def solve(
        self,
        rows: Sequence[Row],
        task: str | None = None,
        group: str | None = None,
        decoding: Decoding | None = None,
        prefix: str = "",
    ) -> list[list[Answer]]:
        """Return for each row its answers, best first; see `Predictor.solve`."""
        return self._predictor().solve(rows, task, group, decoding, prefix)

    def stream(
        self, text: str | Row = "", task: str | None = None, decoding: Decoding | None = None, group: str | None = None
    ) -> Iterator[str]:
        """Yield the answer to one text, or one row, piece by piece; see `Predictor.stream`."""
        return self._predictor().stream(text, task, decoding, group)

    def align(
        self, text: str, answer: str | None = None, group: str | None = None, task: str | None = None
    ) -> tuple[list[str], list[str], Tensor]:
        """Return source pieces, target pieces and the alignment (T, S); see `Predictor.align`."""
        return self._predictor().align(text, answer, group, task)

    # Adapters.

    def add_adapter(self, name: str, file: str | Path) -> None:
        """Read an adapter, which `use_adapter` puts in use; those that are in use stay so.

        Raises: InputError if the name is taken, the file is damaged, or the adapter is of another backbone.
        """
        if name in self._adapters:
            raise InputError(f"the model has an adapter {name} already; choose another name")
        saved, used = read_adapter(file), self._adapter
        backbone, _ = self.built()
        if not self._adapters:
            self._adapters[None] = Adapter(installed(backbone), self.tasks, self.heads, self.decoding)
        self.use_adapter(None)
        take_out(backbone)
        try:
            with refusing(file):
                with drafting():
                    drafted = self._heads_of(saved.tasks).state_dict(prefix="heads.")
                check_shapes(drafted, {own: each for own, each in saved.weights.items() if own.startswith("heads.")})
                self._adapters[name] = saved.build(backbone, self._heads_of(saved.tasks))
        finally:
            self.use_adapter(used)

    def use_adapter(self, name: str | None) -> None:
        """Answer with the adapter of this name, its tasks and heads; None = with the model as it was loaded.

        A predictor keeps what was in use when it was made. The model itself must not be switched while another thread
        uses it.

        Raises: InputError if there is no such adapter.
        """
        if name is None and not self._adapters:
            return
        if name not in self._adapters:
            known = ", ".join(str(each) for each in self._adapters if each is not None) or "none"
            raise InputError(f"the model has no adapter {name}; it has {known}; add one by add_adapter")
        backbone, _ = self.built()
        chosen = self._adapters[name]
        take_out(backbone)
        put(backbone, chosen.layers)
        self.tasks, self.heads, self.decoding, self._adapter = chosen.tasks, chosen.heads, chosen.decoding, name
        self.to(backbone.device).train(self.training)

    # Weights.

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of backbone and heads by their names in the state_dict, merged with the adapter in use.

        Raises: InputError if an engine has the weights, or they are not finite.
        """
        backbone, _ = self.built()
        if next(backbone.parameters(), None) is None:
            raise InputError(
                "an engine has the weights of this model; load the model that it was made of, without engine"
            )
        own = {name: tensor for name, tensor in merged(self.state_dict()).items() if name.startswith(PARTS)}
        check_finite(own)
        return own

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of backbone and heads, which are whole: adapters in place are taken out.

        Weights that only training uses stay as they are.

        Raises: InputError if one is not finite; RuntimeError if one is missing, has another size or is none of this
        model's.
        """
        check_finite(weights)
        take_out(self)
        given = {name: tensor for name, tensor in weights.items() if name.startswith(PARTS)}
        kept = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(PARTS)}
        self.load_state_dict(given | kept)


@contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Let layers be built of numbers of this type; None = as PyTorch is set.

    Raises: InputError if it is no type of floating-point numbers.
    """
    if dtype is None:
        yield
        return
    if not dtype.is_floating_point:
        raise InputError(f"dtype {dtype} holds no floating-point numbers; give torch.float32 or torch.bfloat16")
    with BUILDING:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


class _NoDraws(TorchFunctionMode):
    """Leaves out the draws of first weights: on the device meta they would load a compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def drafting() -> Iterator[None]:
    """Let layers be built as shapes alone, without memory and without numbers."""
    with torch.device("meta"), _NoDraws():
        yield


def check_shapes(drafted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Check that weights have the names and shapes of those drafted. Raises: InputError if one differs."""
    for name in sorted(drafted.keys() | given.keys()):
        wanted, found = (tuple(side[name].shape) if name in side else "missing" for side in (drafted, given))
        if wanted != found:
            raise InputError(f"settings and weights do not fit: {name} is {found}, the settings ask for {wanted}")


def check_tables(draft: nn.Module) -> None:
    """Check that the tables that a model computes and does not save, such as positions, need little memory.

    Raises: InputError if they do not.
    """
    if (size := sum(table.numel() * table.itemsize for table in draft.buffers())) > MOST_TABLES:
        raise InputError(f"the settings ask for tables of {size:,} bytes, such as positions up to backbone.max_length")


def start_marks(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the token with which the decoder begins the texts of each task, where it writes for several.

    Tasks that a prompt tells apart need none, nor does a single one beside them.
    """
    writers = [name for name, task in tasks.items() if task.generates and not task.names_itself]
    return {name: f"<task-{name}>" for name in writers} if len(writers) > 1 else {}


def _in_eval_mode(module: AnyModule) -> AnyModule:
    """Return a copy of a module in evaluation mode that shares all parameters and buffers with it."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    view = copy.deepcopy(module, shared)
    for name in ("encode", "decode"):
        vars(view).pop(name, None)  # compiled functions, which are bound to the module that trains
    return view.eval()
