"""The model card: README.md in a model folder, for people who find the model and know nothing of it.

Its header is that of the Hugging Face hub (Mitchell et al. 2019, "Model Cards for Model Reporting"). It tells what is
known: of the model from its settings, of its training from a `Story`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lmtasks.backbones.base import BackboneConfig
from lmtasks.backbones.lora import is_adapter
from lmtasks.model import Model
from lmtasks.storage import is_hub_id

PIPELINES = {  # kinds of tasks -> what the hub calls them
    "translation": "translation", "generation": "text-generation", "answering": "question-answering",
    "classification": "text-classification", "tagging": "token-classification", "dialogue": "text-generation",
    "summarisation": "summarization",
}  # fmt: skip
BAR = r"\|"  # in a cell of a table
FEW = 5000  # rows of training data, below which a model has seen little


@dataclass(frozen=True)
class Portion:
    """The rows of one task in one split."""

    task: str
    """The name of the task."""
    split: str
    """train, validation or test."""
    source: str
    """The file, or the id of a set on the hub, as it was given."""
    rows: int
    """Rows in it."""
    digest: str
    """The first twelve digits of the SHA-256 of its files, or of what tells the version of a set on the hub."""


@dataclass(frozen=True)
class Story:
    """What a model does not know of its own training."""

    data: tuple[Portion, ...] = ()
    """The rows it learned from and was scored on."""
    steps: int = 0
    """Optimiser steps."""
    settings: str = ""
    """How it was trained, in words."""
    cost: str = ""
    """Time and machine, in words."""
    base: str = ""
    """The pretrained model that it began with, with its revision."""
    chosen_by: tuple[str, ...] = field(default=())
    """Tasks whose scores are of the rows by which the best checkpoint was chosen."""

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, as metrics.json keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Story:
        """Return what `plain` gave."""
        data = tuple(Portion(**each) for each in plain.get("data", ()))
        return cls(**{**plain, "data": data, "chosen_by": tuple(plain.get("chosen_by", ()))})


def model_card(model: Model, name: str, scores: Mapping[str, float], story: Story) -> str:
    """Return the card of a model that is called `name`."""
    tasks = model.tasks
    does = [f"- **{own}**: {task.sentence}" for own, task in tasks.items()]
    parts = [
        _header(model, name, scores, story),
        f"# {name}",
        next(iter(tasks.values())).sentence if len(tasks) == 1 else "It has several tasks:\n\n" + "\n".join(does),
        f"{architecture(model)}.",
        "## Use",
        _use(model),
        *(["## Training", _training(story)] if story.settings or story.data else []),
        *(["## Scores", _scores(model, scores)] if scores else []),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(model, story)),
    ]
    return "\n\n".join(parts) + "\n"


def architecture(model: Model) -> str:
    """Return what the model is in words: kind, layers, widths, parameters, vocabulary."""
    config: BackboneConfig = model.backbone_config
    kind = type(config).__name__.removesuffix("Config")
    settings: Any = config
    if kind == "Recurrent":
        kind = f"{settings.cell.upper()}{' with attention' if config.has_encoder and config.has_decoder else ''}"
    stacks = [
        count(number, f"{part} layer")
        for part, number in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers))
        if number
    ]
    parameters = sum(p.numel() for own, p in model.named_parameters() if not is_adapter(own))
    _, tokenizer = model.built()
    width = getattr(config, "d_model", None)
    of = f" of width {width}" if width else ""
    size = f"{parameters / 1e6:.1f} million parameters" if parameters >= 1e6 else f"{parameters:,} parameters"
    return f"{kind} with {' and '.join(stacks)}{of}: {size}, a vocabulary of {len(tokenizer):,} ({tokenizer.kind})"


def limits(model: Model, story: Story) -> list[str]:
    """Return what the model is known not to do, a sentence each."""
    found = []
    if (longest := model.backbone_config.max_positions) is not None:
        found.append(f"A text of more than {longest:,} tokens is cut.")
    for name, task in model.tasks.items():
        about = f"{name}: " if len(model.tasks) > 1 else ""
        found += [f"{about}{limit}" for limit in task.limits]
        rows = sum(each.rows for each in story.data if (each.task, each.split) == (name, "train"))
        if 0 < rows < FEW:
            found.append(f"{about}It learned from {count(rows, 'row')} only, and knows little beyond them.")
        if name in story.chosen_by:
            found.append(f"{about}Its score is of the rows by which the best checkpoint was chosen, so it is too high.")
    tested = {each.split for each in story.data} & {"test", "validation"}
    if story.data and not tested:
        found.append("It was not scored on any rows.")
    return [*found, "Nobody has examined it for errors about groups of people, or for harm that its answers could do."]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _header(model: Model, name: str, scores: Mapping[str, float], story: Story) -> str:
    """Return the YAML header of the hub. Values are JSON, which YAML contains."""
    kinds = list(dict.fromkeys(PIPELINES.get(task.kind, "") for task in model.tasks.values()))
    sets = [each.source for each in story.data if is_hub_id(each.source.partition("[")[0])]
    languages = list(dict.fromkeys(code for task in model.tasks.values() for code in task.written_in))
    fields: dict[str, Any] = {
        "library_name": "lmtasks",
        "pipeline_tag": kinds[0],
        "tags": ["lmtasks", *kinds],
        "language": languages,
        "datasets": list(dict.fromkeys(each.partition("[")[0] for each in sets)),
        "base_model": story.base.partition("@")[0] if is_hub_id(story.base.partition("@")[0]) else "",
    }
    results = [_result(model, own, scores) for own in model.tasks]
    if any(result["metrics"] for result in results):
        fields["model-index"] = [{"name": name, "results": [each for each in results if each["metrics"]]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    note = "# license: choose one that its data and its base model allow, and write it here"
    return "\n".join(["---", *lines, note, "---"])


def _result(model: Model, name: str, scores: Mapping[str, float]) -> dict[str, Any]:
    """Return the main score of a task as the hub's index of results has it."""
    main = model.tasks[name].main_metric
    named = {split: f"{split}/{name}/{main}" for split in ("test", "validation")}
    found = [(split, scores[own]) for split, own in named.items() if own in scores]
    return {
        "task": {"type": PIPELINES.get(model.tasks[name].kind, name), "name": name},
        "dataset": {"type": "own", "name": f"{found[0][0]} rows" if found else ""},
        "metrics": [{"type": main, "value": round(value, 2)} for _, value in found[:1]],
    }


def _use(model: Model) -> str:
    """Return three ways to use the model."""
    commands = "\n".join(model.example_commands("FOLDER"))
    name, task = next(iter(model.tasks.items()))
    which = f', task="{name}"' if len(model.tasks) > 1 else ""
    call = task.example_call.replace(")", f"{which})") if which else task.example_call
    return f"""In the shell, where FOLDER is this folder:

```bash
{commands}
```

In Python:

```python
import lmtasks

model = lmtasks.load("FOLDER")
model.{call}
```

Without lmtasks and torch, in CTranslate2 or (`--to onnx`) ONNX Runtime, by the program `run.py` that is written too:

```bash
lmtasks export FOLDER --to ct2 --output exported
```"""


def _training(story: Story) -> str:
    """Return what it learned from and how, what that cost, and what it began with."""
    told = []
    if story.base:
        told.append(f"It began with the weights of {story.base}.")
    told += [text for text in (story.settings, story.cost) if text]
    parts = [" ".join(told)] if told else []
    if story.data:
        several = len({each.task for each in story.data}) > 1
        head = ["task"] * several + ["split", "data", "rows", "SHA-256"]
        rows = [
            [each.task] * several + [each.split, f"`{each.source}`", f"{each.rows:,}", each.digest]
            for each in story.data
        ]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def _scores(model: Model, scores: Mapping[str, float]) -> str:
    """Return the scores with the signatures of their scorers."""
    rows = []
    for name, value in scores.items():
        split, _, rest = name.partition("/")
        task, _, metric = rest.partition("/")
        if not metric:  # the mean over tasks
            continue
        own = model.tasks[task]
        shown = f"**{value:.2f}**" if metric == own.main_metric else f"{value:.2f}"
        signature = model.signatures.get(rest, "")
        rows.append([split, *([task] * (len(model.tasks) > 1)), metric, shown, f"`{signature}`" if signature else ""])
    head = ["split", *(["task"] * (len(model.tasks) > 1)), "metric", "score", "how it is computed"]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", BAR) for cell in line) + " |" for line in lines)
