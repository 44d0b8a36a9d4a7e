"""The shape of the library, read from its source: who imports whom."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from tiny import several_module, several_tasks, tiny_module

from lmtasks import __all__ as EXPORTED
from lmtasks.storage.model_folder import save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.training.joint.learning import JointConfig
from lmtasks.training.joint.weighting import GradNorm
from lmtasks.training.module import TaskModule

PACKAGE = Path(__file__).parent.parent / "lmtasks"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    "lazy errors checked finite storage.__init__ storage.writing storage.reading storage.checksums",
    "hub",
    "settings batch cuts story",
    "text.base text.columns text.forms text.languages text.pieces text.tags text.words",
    "text.*",
    "backbones.loss",
    "backbones.base backbones.dropout",
    "backbones.attention backbones.lora",
    "backbones.transformer backbones.recurrent backbones.wrapped",
    "decoding.*",
    "metrics.*",
    "reports.pictures reports.confusion",
    "heads.base",
    "heads.*",
    "tasks.base",
    "tasks.*",
    "data.readers.formats data.readers.base",
    "data.readers.hub data.readers.files",
    "data.readers.*",
    "village.*",
    "data.plan data.limits data.tokenized",
    "data.*",
    "predict adapters",
    "model",
    "pretrained.folder pretrained.marian_binary pretrained.__init__",
    "pretrained.table pretrained.family pretrained.heads pretrained.tokenizers",
    "pretrained.fairseq",
    "pretrained.*",
    "export.shared export.programs export.ct2 export.ct2_engine export.onnx export.onnx_engine",
    "export.runner export.hf_layouts export.hf_tokenizer",
    "export.exported export.hf",
    "export.*",
    "storage.checkpoint storage.card",
    "storage.model_folder storage.run_folder",
    "reports.*",
    "training.optim.muon training.optim.schedule",
    "training.optim.*",
    "training.joint.surgery training.joint.weighting",
    "training.joint.*",
    "training.sharding",
    "training.config training.evaluation training.hardware training.health training.init_from training.steps",
    "training.callbacks.*",
    "training.checks",
    "training.module",
    "training.modules training.datamodule",
    "cli.*",
]  # a file imports only from lines above its own, and from its own line; of several that fit a name the longest counts
WITHOUT_LIGHTNING = (
    "backbones",
    "text",
    "tasks",
    "metrics",
    "heads",
    "decoding",
    "batch",
    "errors",
    "settings",
    "training.optim",
    "training.joint",
    "training.config",
    "training.init_from",
    "village",
    "storage",
    "reports",
    "story",
    "predict",
    "adapters",
    "model",
    "pretrained",
    "export",
)  # what a model in use is made of, and what else can do without a trainer
REACHED = {  # what is `Any` for a type checker -> the files, or rooms, that may use it
    "datamodule": ("cli.",),  # of LightningCLI; nothing that trains looks for the data through the trainer
    "lightning_module": ("training.datamodule",),  # which tells the module, of a type that it checks, about the data
}
LIGHT = ("__init__", "__main__", "cli.main", "errors")  # what answers before torch is loaded


def test_a_file_imports_only_from_layers_above():
    faults = []
    for path in FILES:
        imported = [name.removeprefix("lmtasks.") for name in _imports(path) if name.startswith("lmtasks.")]
        own = _layer(_name(path))
        faults += [f"{_name(path)} imports {name}, which is below it" for name in imported if _layer(name) > own]
    assert not faults


def test_every_file_has_its_layer():
    homeless = [_name(path) for path in FILES if _layer(_name(path)) is None]
    assert not homeless, f"write these into LAYERS: {homeless}"


def test_no_file_imports_the_exported_names():
    for path in FILES:
        exported = {name for name in _imports(path) if name.count(".") == 1} & {f"lmtasks.{name}" for name in EXPORTED}
        assert not exported, f"{_name(path)}: import {exported} from the file that defines it"


def test_only_modules_data_and_training_know_lightning():
    without = tuple(f"{name}." for name in WITHOUT_LIGHTNING)
    inside = [path for path in FILES if f"{_name(path)}.".startswith(without)]
    assert not [_name(path) for path in inside if any("lightning" in name for name in _imports(path))]


def test_what_answers_at_once_imports_nothing_heavy():
    light = [path for path in FILES if _name(path) in LIGHT]
    assert len(light) == len(LIGHT)
    for path in light:
        outside = {name.split(".")[0] for name in _imports(path)} - {"lmtasks"}
        assert outside <= set(sys.stdlib_module_names), _name(path)


@pytest.mark.parametrize(("attribute", "places"), REACHED.items())
def test_only_these_reach_through_the_trainer(attribute, places):
    found = {
        _name(path)
        for path in FILES
        for node in ast.walk(_tree(path))
        if (isinstance(node, ast.Attribute) and node.attr == attribute)
        or (isinstance(node, ast.Call) and any(_text(argument) == attribute for argument in node.args))  # getattr
    }
    assert {name for name in found if not name.startswith(places)} == set()


def test_the_data_check_the_type_of_the_module_that_trains():
    source = ast.unparse(_tree(PACKAGE / "training/datamodule.py"))
    assert source.count(".lightning_module") == 1
    assert re.search(r"isinstance\(\w+, TaskModule\)", source)


def test_importing_the_package_does_not_load_torch():
    assert _loaded_by("import lmtasks; dir(lmtasks)", "torch") == "[]"


def test_the_help_of_the_command_line_does_not_load_torch():
    assert _loaded_by("from lmtasks.cli.main import main; main(['--help'])", "torch") == "[]"


def test_a_model_and_the_commands_that_use_one_load_neither_lightning_nor_torchmetrics(tmp_path):
    tasks = several_tasks(
        mood=ClassificationTask(labels=("bad", "good")),
        names=TaggingTask(labels=("X",)),
        answering=SpanAnsweringTask(),
        dialogue=DialogueTask(),
        generation=GenerationTask(prompt=4),
        summarisation=SummarisationTask(),
    )
    _save(several_module(tasks=tasks, joint=JointConfig(GradNorm())), tmp_path)
    code = """
import lmtasks
model = lmtasks.load("model")
short = lmtasks.Decoding(beam=2, max_length=3)
model.translate("a b", decoding=short), model.summarise("a b.", short), model.reply(["a b"], short)
model.generate("a b", short), list(model.stream("a b", "translation", lmtasks.Decoding(beam=1, max_length=3)))
model.classify("a b"), model.tag("a b"), model.answer("a?", "a b"), model.align("a b", task="translation")
import lmtasks.backbones.recurrent
from lmtasks.cli.main import main
for command in (["run", "one", "a b"], ["attend", "one", "a b"], ["info", "one"]):
    assert main(command) == 0
"""
    _save(tiny_module(), tmp_path, "one")
    assert _loaded_by(code, "lightning", "torchmetrics", "torch._dynamo", folder=tmp_path) == "[]"


@pytest.mark.parametrize("name", ["lmtasks", "lmtasks.metrics"])
def test_every_exported_name_exists(name):
    package = import_module(name)
    assert set(package.__all__) == set(package._HOMES) <= set(dir(package))
    for exported in package.__all__:
        home = import_module(f"{name}.{package._HOMES[exported]}")
        assert getattr(package, exported) is getattr(home, exported)
    with pytest.raises(AttributeError, match="no attribute 'Transformr'"):
        _ = package.Transformr


def test_whatever_is_public_has_a_docstring():
    for path in FILES:
        tree = _tree(path)
        if tree.body:
            assert ast.get_docstring(tree), f"{path.name} does not say what it is"
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def _save(module: TaskModule, folder: Path, name: str = "model") -> None:
    """Write a module that has not been trained as a model folder."""
    module.train_tokenizer([], folder)
    module.configure_model()
    save(module, folder / name)


def _name(path: Path) -> str:
    """Return lmtasks/data/plan.py as data.plan, and the __init__.py of a package as data.__init__."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _layer(name: str) -> int | None:
    """Return the line of LAYERS that a file, a package or a name inside a file stands on."""
    if name in ("__init__", "__main__", "__version__"):
        return 0 if name == "__version__" else len(LAYERS)
    fits = []
    for number, line in enumerate(LAYERS):
        for entry in line.split():
            package = entry.removesuffix(".*")
            if name == package or name.startswith(f"{package}."):
                fits.append((len(entry.removesuffix("*")), number))
    if fits:
        return max(fits)[1]
    if name.split(".")[0] == "storage":  # a name of a file on disk, which storage/__init__.py defines
        return 0
    inside = [
        number for number, line in enumerate(LAYERS) for e in line.split() if e.startswith(name.split(".")[0] + ".")
    ]
    return max(inside, default=None)  # a package as a whole, or its __init__.py


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _text(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@cache
def _imports(path: Path) -> list[str]:
    """Return every module that a file names in an import that is run (not for type checkers only)."""
    tree = _tree(path)
    unread = {id(node) for block in ast.walk(tree) if _for_type_checkers(block) for node in ast.walk(block)}
    names = []
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports from lmtasks in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _loaded_by(code: str, *modules: str, folder: Path = PACKAGE.parent) -> str:
    """Run `code` in a fresh interpreter and return which of `modules` it has loaded, as its last line says."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", f"{code}\nimport sys; print([name for name in {modules} if name in sys.modules])"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=folder)
    return ran.stdout.splitlines()[-1]
