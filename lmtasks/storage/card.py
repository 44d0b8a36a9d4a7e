"""The model card: README.md in a model folder, for people who find the model and know nothing of it.

Its header is that of the Hugging Face hub (Mitchell et al. 2019, "Model Cards for Model Reporting"). It tells what is
known: of the model from its settings, of its training from its `Story`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmtasks.backbones.lora import is_adapter
from lmtasks.model import Model
from lmtasks.storage import HUB_ID
from lmtasks.storage.reading import refusing
from lmtasks.story import Portion, Story, count
from lmtasks.tasks.base import listed

PIPELINES = {  # kinds of tasks -> what the hub calls them
    "translation": "translation", "generation": "text-generation", "answering": "question-answering",
    "classification": "text-classification", "tagging": "token-classification", "dialogue": "text-generation",
    "summarisation": "summarization",
}  # fmt: skip
PIECES = {  # kinds of tokenizers -> what their vocabularies hold
    "bpe": "byte-pair pieces", "unigram": "unigram pieces", "wordpiece": "WordPiece pieces",
    "sentencepiece": "SentencePiece pieces", "character": "characters", "byte": "bytes",
}  # fmt: skip
COMPUTED = {  # scores that tasks do not sign -> how they are computed
    "loss": "mean negative log-likelihood of a target, in nats", "perplexity": "exp(loss)",
    "token_probability": "100 / perplexity",
}  # fmt: skip
BAR = r"\|"  # in a cell of a table
MARKUP = re.compile(r"[\\`*<\[~]|(?<!\w)_|_(?!\w)")  # what Markdown would take for its own, as in labels
HUB_COMMIT = re.compile(rf"(?P<id>{HUB_ID.pattern})@[0-9a-f]{{40}}")
HUB_SET = re.compile(r"[:\[]")  # begins config and split behind the id of a set on the hub
FEW = 5000  # rows of training data, below which a model has seen little
UNEXAMINED = "It has not been examined for errors about groups of people, or for harm that its answers could do."


def model_card(model: Model, name: str, scores: Mapping[str, float]) -> str:
    """Return the card of a model that is called `name`."""
    tasks, story = model.tasks, model.story
    sentences = {own: MARKUP.sub(r"\\\g<0>", task.sentence) for own, task in tasks.items()}
    does = [f"- **{own}**: {sentence}" for own, sentence in sentences.items()]
    parts = [
        _header(model, name, scores),
        f"# {name}",
        next(iter(sentences.values())) if len(tasks) == 1 else "It has several tasks:\n\n" + "\n".join(does),
        f"{architecture(model)}.",
        "## Use",
        _use(model),
        *(["## Training", told] if (told := _training(model, scores)) else []),
        *(["## Scores", _scores(model, scores)] if scores else []),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(model, scores)),
        "## Licence",
        _licence(story.base),
    ]
    return "\n\n".join(parts) + "\n"


def architecture(model: Model) -> str:
    """Return what the model is in words: kind, layers, width, parameters, vocabulary."""
    config: Any = model.backbone_config
    _, tokenizer = model.built()
    kind = type(config).__name__.removesuffix("Config")
    if kind == "Recurrent":
        kind = f"{config.cell.upper()}{' with attention' if config.has_encoder and config.has_decoder else ''}"
    stacks = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    layers = " and ".join(count(number, f"{stack} layer") for stack, number in stacks.items() if number)
    width = f" of width {config.d_model}" if hasattr(config, "d_model") else ""
    n = sum(p.numel() for own, p in model.named_parameters() if not is_adapter(own))
    size = f"{n / 1e6:,.1f} million parameters" if n >= 1e6 else count(n, "parameter")
    vocabulary = f"a vocabulary of {len(tokenizer):,} {PIECES.get(tokenizer.kind, 'pieces')}"
    return f"{kind}, {layers}{width}, {size}, {vocabulary}"


def training(model: Model) -> list[str]:
    """Return what a model began with, how it was trained and what that cost, as far as it is known: sentences."""
    story, told = model.story, []
    if story.base or story.base_steps:
        told.append(f"It began with the weights of {_base(story)}.")
    if story.steps:
        with refusing("the settings of its training"):
            told += [f"{', '.join(_settings(model))}.", *_parts(model)]
    if story.averaged:
        told.append(f"The weights are the average of {count(story.averaged, 'checkpoint')}.")
    elif story.kept_step:
        told.append(f"The weights are those after step {story.kept_step:,}.")
    if story.machine:
        told.append(f"The training took {_time(story.seconds)} on {story.machine}.")
    if story.memory:
        told.append(f"The most memory that a process took was {story.memory / 1e9:.1f} GB.")
    return told


def limits(model: Model, scores: Mapping[str, float]) -> list[str]:
    """Return what the model is known not to do, a sentence each."""
    story, found = model.story, []
    whole = [name for name, task in model.tasks.items() if task.max_length is None]  # the others say what they read
    of = "" if len(whole) == len(model.tasks) else f"{listed(whole)}: "
    if whole and (longest := model.backbone_config.max_positions) is not None:
        found.append(f"{of}A text of more than {longest:,} tokens is cut.")
    if whole and story.max_length:
        then = {"drop": "left out", "cut": "cut"}.get(story.too_long, "not read")
        found.append(f"{of}In training, texts of more than {count(story.max_length, 'token')} were {then}.")
    for name, task in model.tasks.items():
        about = f"{name}: " if len(model.tasks) > 1 else ""
        found += [f"{about}{limit}" for limit in task.limits]
        rows = sum(each.rows for each in story.data if (each.task, each.split) == (name, "train"))
        if 0 < rows < FEW:
            found.append(f"{about}It learned from {count(rows, 'row')} only, and knows little beyond them.")
        if f"validation/{name}/{task.main_metric}" in scores:
            chosen = "" if story.averaged else ", by which the best checkpoint was chosen, so they are likely too high"
            found.append(f"{about}Its scores are of the validation rows{chosen}.")
    if story.data and not scores:
        found.append("No scores of it are known.")
    return [*found, UNEXAMINED]


def used(model: Model, scores: Mapping[str, float]) -> list[Portion]:
    """Return the rows that the model learned from, and those that it was scored on."""
    scored = {name.partition("/")[0] for name in scores}
    return [each for each in model.story.data if each.split != "test" or "test" in scored]


def _settings(model: Model) -> list[str]:
    """Return the settings of a training that matter, in words."""
    story, plain = model.story, model.training_settings["training"]["init_args"]
    optimizer, schedule = plain["optimizer"], plain["schedule"]
    rate = optimizer["init_args"].get("lr")
    told = [
        optimizer["class_path"] + (f" at a rate of {rate:g}" if rate else ""),
        f"{schedule['init_args']['kind'].replace('_sqrt', ' square root')} schedule",
        f"{count(story.steps, 'step')} of {count(story.tokens_per_step, 'token')}, padding counted",
        f"precision {story.precision}",
        "no fixed seed" if story.seed is None else f"seed {story.seed}",
    ]
    return told if story.order_seed == story.seed else [*told, f"seed {story.order_seed} of the order of the rows"]


def _parts(model: Model) -> list[str]:
    """Return which parts of a model were trained, where that is not all of it: sentences."""
    plain, told = model.training_settings["training"]["init_args"], []
    if lora := plain.get("lora"):
        told.append(f"Of the backbone only adapters were trained: LoRA of rank {lora['init_args']['rank']}.")
    if frozen := plain.get("freeze"):
        told.append(f"{listed(frozen)} {'was' if len(frozen) == 1 else 'were'} not trained.")
    return told


def _header(model: Model, name: str, scores: Mapping[str, float]) -> str:
    """Return the YAML header of the hub. Values are JSON, which YAML contains."""
    kinds = list(dict.fromkeys(PIPELINES.get(task.kind, "") for task in model.tasks.values()))
    on_hub = HUB_COMMIT.fullmatch(model.story.base)
    sets = [HUB_SET.split(each.source)[0] for each in used(model, scores) if each.hub]
    languages = list(dict.fromkeys(code for task in model.tasks.values() for code in task.written_in))
    fields: dict[str, Any] = {
        "library_name": "lmtasks",
        "pipeline_tag": kinds[0],
        "tags": ["lmtasks", *kinds],
        "language": languages,
        "datasets": list(dict.fromkeys(sets)),
        "base_model": on_hub["id"] if on_hub else "",
        "metrics": list(dict.fromkeys(task.main_metric for task in model.tasks.values())) if scores else [],
    }
    results = [_result(model, own, scores) for own in model.tasks]
    if any(result["metrics"] for result in results):
        fields["model-index"] = [{"name": name, "results": [each for each in results if each["metrics"]]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    note = "# license: NAME"
    return "\n".join(["---", *lines, note, "---"])


def _result(model: Model, name: str, scores: Mapping[str, float]) -> dict[str, Any]:
    """Return the main score of a task as the hub's index of results has it."""
    main = model.tasks[name].main_metric
    named = {split: f"{split}/{name}/{main}" for split in ("test", "validation")}
    found = [(split, scores[own]) for split, own in named.items() if math.isfinite(scores.get(own, math.nan))]
    return {
        "task": {"type": PIPELINES.get(model.tasks[name].kind, name), "name": name},
        "dataset": _dataset(model.story, name, found[0][0] if found else ""),
        "metrics": [{"type": main, "value": round(value, 2)} for _, value in found[:1]],
    }


def _dataset(story: Story, task: str, split: str) -> dict[str, str]:
    """Return the rows of a task that were scored, as the hub's index of results has them."""
    own = next((each for each in story.data if (each.task, each.split) == (task, split)), None)
    source = own.source if own else "not known"
    return {"name": source, "type": HUB_SET.split(source)[0] if own and own.hub else "own", "split": split}


def _base(story: Story) -> str:
    """Return what a model began with, in words."""
    steps = count(story.base_steps, "step")
    if not story.base:
        return f"a model that had been trained for {steps}"
    return story.base + (f", trained for {steps} since" if story.base_steps else "")


def _licence(base: str) -> str:
    """Return what is known of the licence: nothing."""
    allow = f"its data and its base model, {base.partition('@')[0]}, allow" if base else "its data allow"
    return (
        f"No licence has been chosen. Choose one that {allow}, and write it here and into the header of this file "
        "(`license: NAME`)."
    )


def _use(model: Model) -> str:
    """Return three ways to use the model."""
    commands = "\n".join(model.example_commands("MODEL"))
    several = len(model.tasks) > 1
    calls = "\n".join(
        f"model.{task.example_call.removesuffix(')')}" + (f', task="{name}")' if several else ")")
        for name, task in model.tasks.items()
    )
    return f"""In the shell; MODEL is this folder, or OWNER/NAME where it lies on the Hugging Face hub:

```bash
{commands}
```

In Python:

```python
import lmtasks

model = lmtasks.load("MODEL")
{calls}
```

Without lmtasks and PyTorch, in ONNX Runtime or, for many Transformers, in CTranslate2 (`--to ct2`); the export has a
program `run.py` that shows how. `--to hf` writes a model for transformers, where that has the architecture:

```bash
lmtasks export MODEL --to onnx --output exported
```"""


def _training(model: Model, scores: Mapping[str, float]) -> str:
    """Return what it began with, how it was trained and on what, and what that cost."""
    told, data = training(model), used(model, scores)
    parts = [" ".join(told)] if told else []
    if data:
        several = len({each.task for each in data}) > 1
        sized = any(each.size for each in data)
        head = ["task"] * several + ["split", "data", "rows", *["size"] * sized, "SHA-256, first digits"]
        rows = [
            [each.task] * several
            + [each.split, f"`{each.source}`", f"{each.rows:,}", *[_size(each.size)] * sized, each.digest]
            for each in data
        ]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def _scores(model: Model, scores: Mapping[str, float]) -> str:
    """Return the scores with the signatures of their scorers."""
    rows, signatures = [], model.signatures
    for name, value in scores.items():
        split, _, rest = name.partition("/")
        task, _, metric = rest.partition("/")
        if not metric:  # the mean over tasks
            continue
        main = task in model.tasks and metric == model.tasks[task].main_metric
        shown = f"**{value:.2f}**" if main else f"{value:.2f}"
        groups = [other.partition("/")[2] for other in signatures if other.startswith(f"{rest}_")]  # bleu_en-de
        method = f"the mean of {listed(groups)}" if groups else COMPUTED.get(metric, "")
        if rest in signatures:
            method = f"`{signatures[rest]}`"
        rows.append([split, *([task] * (len(model.tasks) > 1)), metric, shown, method])
    head = ["split", *(["task"] * (len(model.tasks) > 1)), "metric", "score", "how it is computed"]
    return _table(head, rows)


def _time(seconds: float) -> str:
    """Return a time as people say it."""
    for limit, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= 2 * limit:
            return f"{seconds / limit:.1f} {unit}s"
    return count(max(1, round(seconds)), "second")


def _size(size: int) -> str:
    """Return a number of bytes as people say it; nothing where it is not known."""
    return "" if not size else f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", BAR) for cell in line) + " |" for line in lines)
