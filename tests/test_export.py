"""lmtasks export and load(engine=): the command, the kept exports, the programs beside them."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
import torch

from lmtasks.backbones.recurrent import RecurrentConfig
from lmtasks.backbones.transformer import TransformerConfig
from lmtasks.cli.main import main
from lmtasks.decoding import Decoding
from lmtasks.errors import InputError
from lmtasks.export.check import check_export
from lmtasks.export.export import export_model
from lmtasks.export.exported import open_export
from lmtasks.export.runner import word_pattern
from lmtasks.model import Model
from lmtasks.storage import KEPT_EXPORTS
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.answering import SpanAnsweringTask
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.dialogue import DialogueTask
from lmtasks.tasks.generation import GenerationTask
from lmtasks.tasks.tagging import TaggingTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.text.tokenizer import Tokenizer, TokenizerConfig
from lmtasks.text.words import LETTERS, split_words

WORDS = "Anna Bell lives in Rome and has a cat , but the dog of her brother lives at the sea ."
SENTENCES = [
    "Anna has a cat.", "The dog lives in Rome.", "a", "her brother's dog , the cat and Anna Bell", "Rome , Rome !",
]  # fmt: skip
END = 7.0  # the bias of the end, which makes texts of a dozen tokens
SIZES = {
    "d_model": 32,
    "n_heads": 4,
    "d_ff": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "dropout": 0.0,
    "output_bias": True,
}
SIMPLE_TAGS = {"spelling": False, "layers": 0, "labels": ("LOC", "PER"), "writing": ("'s", "letters")}
SIMPLE_SPANS = {"attention": False, "word_match": False, "layers": 0, "window": 64, "stride": 32}


def tiny(tasks, decoding=None, **settings):
    """Return a random model whose texts vary and end: large weights, and a bias for the end."""
    torch.manual_seed(3)
    backbone = TransformerConfig(**(SIZES | settings))
    model = Model(tasks, backbone, decoding or Decoding(beam=3, max_length=24, early_stop="beam"))
    tokenizer = Tokenizer.train([WORDS] * 3, TokenizerConfig("bpe", 300), *model.token_names)
    model.build(tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                outer = name.endswith(("output.weight", "outer.weight"))  # a sublayer adds more than what was there
                parameter.normal_(std=(6.0 if outer else 1.0) * parameter.size(1) ** -0.5)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
        for table in (model.backbone.embedding.weight, model.backbone.output_weight):
            if table is not None:
                table.mul_(3)
        if model.backbone.output_bias is not None:
            model.backbone.output_bias[tokenizer.eos_id] = END
            never = tokenizer.suppress_tokens
            model.backbone.output_bias[never] = -50.0  # as in a trained model, they are never likely
    return model.eval()


def reader(task, **settings):
    """Return a model of an encoder with one task."""
    return tiny({task.kind: task}, decoder_layers=0, **settings)


MODELS = {
    "translation": lambda: tiny({"translation": TranslationTask(("en-de", "en-fr"))}),
    "generation": lambda: tiny(
        {"generation": GenerationTask(block=48)}, Decoding(beam=1, max_length=20), encoder_layers=0
    ),
    "dialogue": lambda: tiny({"dialogue": DialogueTask(history=32)}, Decoding(beam=1, max_length=20)),
    "classification": lambda: reader(ClassificationTask(labels=("bad", "fair", "good"), pooling="max")),
    "labels": lambda: reader(ClassificationTask(labels=("a", "b", "c"), multi_label=True, pair=True)),
    "tagging": lambda: reader(TaggingTask(**SIMPLE_TAGS)),
    "answering": lambda: reader(SpanAnsweringTask(**SIMPLE_SPANS)),
}
ROWS = {
    "translation": [{"en": text} for text in SENTENCES],
    "dialogue": [{"turns": [text]} for text in SENTENCES],
    "labels": [{"text": text, "pair": SENTENCES[0]} for text in SENTENCES],
    "answering": [{"question": text, "context": WORDS} for text in SENTENCES],
}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Return a function that exports one of MODELS once, and returns model, folder."""
    made = {}

    def export(name, to):
        if (name, to) not in made:
            folder = tmp_path_factory.mktemp("exports") / f"{name}-{to}"
            model = MODELS[name]()
            export_model(model, to, folder)
            made[name, to] = model, folder
        return made[name, to]

    return export


@pytest.mark.parametrize("name", [name for name in MODELS if name != "translation"])
def test_ct2_answers_as_the_model_does(exports, name):
    model, folder = exports(name, "ct2")
    _same_answers(model, open_export(folder), name)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "answering")) for name in MODELS]
)
def test_onnx_answers_as_the_model_does(exports, name):
    model, folder = exports(name, "onnx")
    _same_answers(model, open_export(folder), name)


def _same_answers(model, exported, name):
    rows = ROWS.get(name, [{"text": text} for text in SENTENCES])
    group = "en-fr" if name == "translation" else None
    ours, theirs = model.solve(rows, group=group), exported.solve(rows, group=group)
    assert [several[0].text for several in ours] == [several[0].text for several in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert other[0].score == pytest.approx(one[0].score, abs=2e-4)
        assert other[0].spans == one[0].spans
        assert other[0].probabilities == pytest.approx(one[0].probabilities, abs=1e-4)


@pytest.mark.parametrize("to", ["ct2", "onnx"])
def test_an_export_tells_nothing_of_the_machine_that_wrote_it(exports, to):
    _, folder = exports("answering", to)
    for path in folder.rglob("*"):
        content = path.read_bytes()
        assert str(Path(__file__).parent.parent).encode() not in content, path
        assert b"stack_trace" not in content, path


@pytest.mark.parametrize(("name", "to"), [("translation", "ct2"), ("answering", "ct2"), ("answering", "onnx")])
def test_a_predictor_of_an_engine_answers_too(exports, name, to):
    _, folder = exports(name, to)
    theirs = open_export(folder)
    rows, group = ROWS[name][:2], "en-fr" if name == "translation" else None
    predictor = theirs.predictor()
    assert predictor.solve(rows, group=group) == theirs.solve(rows, group=group)
    assert theirs.train().solve(rows, group=group) == predictor.solve(rows, group=group)


@pytest.fixture
def folder(tmp_path):
    """A model folder."""
    return save(MODELS["classification"](), tmp_path / "model")


def test_load_keeps_what_an_engine_reads_in_the_model_folder_until_the_model_changes(folder):
    load(folder, engine="ct2").classify("Anna")
    kept = folder / KEPT_EXPORTS / "ct2-float32"
    written = (kept / "model.bin").stat().st_mtime_ns
    load(folder, engine="ct2")
    assert (kept / "model.bin").stat().st_mtime_ns == written
    model = load(folder)
    with torch.no_grad():
        model.heads["classification"].output.bias += torch.tensor([9.0, 0.0, -9.0])
    save(model, folder)
    assert load(folder, engine="ct2").probabilities("Anna") == pytest.approx(model.probabilities("Anna"), abs=1e-4)
    assert (kept / "model.bin").stat().st_mtime_ns != written


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_a_damaged_export_in_a_model_folder_is_written_again(folder, damage):
    before = load(folder, engine="ct2").probabilities("Anna")
    damage(folder / KEPT_EXPORTS / "ct2-float32" / "model.bin")
    assert load(folder, engine="ct2").probabilities("Anna") == before


def test_an_export_needs_nothing_of_the_model(folder, tmp_path, capsys):
    assert main(["export", str(folder), "--to", "ct2", "--output", str(tmp_path / "out")]) == 0
    assert "checked: 16 of 16 answers are the same" in capsys.readouterr().out
    folder.rename(tmp_path / "gone")
    (tmp_path / "out").rename(tmp_path / "moved")
    assert main(["run", str(tmp_path / "moved"), "Anna"]) == 0
    own = load(tmp_path / "gone").classify("Anna")
    assert capsys.readouterr().out.strip() == own


def test_run_takes_an_engine(folder, capsys):
    assert main(["run", str(folder), "--engine", "ct2", "--precision", "int8", "Anna"]) == 0
    assert capsys.readouterr().out.strip() in ("bad", "fair", "good")
    assert (folder / KEPT_EXPORTS / "ct2-int8" / "model.bin").is_file()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"engine": "tensorrt"}, "no engine 'tensorrt'"),
        ({"engine": "onnx", "precision": "float16"}, "onnx has no precision 'float16'"),
        ({"precision": "int8"}, "give one: ct2 or onnx"),
        ({"engine": "ct2", "dtype": torch.bfloat16}, "dtype is for models in torch"),
    ],
)
def test_an_impossible_choice_of_engine_is_refused(folder, settings, problem):
    with pytest.raises(InputError, match=problem):
        load(folder, **settings)


def test_an_export_is_not_taken_for_another_engine(exports):
    _, folder = exports("classification", "ct2")
    with pytest.raises(InputError, match="with engine ct2, not onnx"):
        load(folder, engine="onnx")


def test_a_folder_with_other_files_is_not_replaced(folder, tmp_path):
    with pytest.raises(InputError, match="is no export"):
        export_model(load(folder), "ct2", folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("Dear Anna")
    with pytest.raises(InputError, match="is no export"):
        export_model(load(folder), "ct2", other)
    assert [path.name for path in other.iterdir()] == ["letter.txt"]


def test_a_model_without_weights_is_neither_saved_nor_exported(exports, tmp_path):
    theirs = open_export(exports("translation", "ct2")[1])
    for refused in (lambda: save(theirs, tmp_path / "a"), lambda: export_model(theirs, "onnx", tmp_path / "b")):
        with pytest.raises(InputError, match="an engine has the weights"):
            refused()
    with pytest.raises(InputError, match="does not hand out its attention"):
        theirs.align("Anna", group="en-de")
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_an_earlier_one_and_nothing_else(exports, folder, tmp_path):
    _, several = exports("translation", "ct2")
    out = Path(shutil.copytree(several, tmp_path / "out"))
    (out / "data").mkdir()
    for name in ("notes.txt", "README.md", "data/mine.csv"):
        (out / name).write_text("mine")
    export_model(load(folder), "ct2", out, "int8")
    assert json.loads((out / "lmtasks.json").read_text())["precision"] == "int8"
    assert not (out / "shared_vocabulary.json").exists()  # of the earlier one
    assert [(out / name).read_text() for name in ("notes.txt", "README.md", "data/mine.csv")] == ["mine"] * 3
    assert load(out).probabilities("Anna")


def test_the_command_says_what_is_wrong_before_it_writes(folder, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "columns.jsonl").write_text('{"tokens": "Anna"}\n')
    for options, said in (
        (["--precision", "float64"], "ct2 has no precision 'float64'"),
        (["--task", "mood"], "the model has no task 'mood'"),
        (["--input", str(tmp_path / "empty.txt")], "empty.txt: has no texts"),
        (["--input", str(tmp_path / "columns.jsonl")], "columns.jsonl, row 1"),
        (["--adapter", str(tmp_path)], "adapter.safetensors: there is no such file"),
    ):
        assert main(["export", str(folder), "--to", "ct2", "--output", str(tmp_path / "out"), *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_to_type_next_and_takes_the_card_along(folder, tmp_path, capsys):
    assert main(["export", str(folder), "--to", "ct2", "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert f'try it:  lmtasks run {tmp_path / "out"} "A sentence."' in told
    assert f'try it:  python {tmp_path / "out" / "run.py"} "A sentence."' in told
    assert (tmp_path / "out" / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    assert main(["info", str(tmp_path / "out")]) == 0
    assert "engine       ct2, float32, " in capsys.readouterr().out


def test_a_damaged_export_is_one_line(exports, tmp_path):
    _, folder = exports("classification", "ct2")
    for name in ("model.bin", "heads.safetensors", "lmtasks.json", "tokenizer.lmtasks.json"):
        damaged = tmp_path / name
        shutil.copytree(folder, damaged)
        (damaged / name).write_bytes(b"{")
        with pytest.raises(InputError) as raised:
            load(damaged)
        assert str(damaged) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["model.bin", "heads.safetensors", "tokenizer.json", "tokenizer.lmtasks.json"])
def test_a_file_of_another_export_is_noticed(exports, tmp_path, name):
    _, folder = exports("classification", "ct2")
    _, other = exports("tagging", "ct2")
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    (mixed / "run.py").write_text("# mine")
    load(mixed)
    content = bytearray((other / name).read_bytes() if (other / name).exists() else b"")
    (mixed / name).write_bytes(content + b" ")
    with pytest.raises(InputError, match=f"{name}: is not as it was saved"):
        load(mixed)


def test_an_export_kept_through_a_link_replaces_nothing_elsewhere(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("three years of work")
    (folder / KEPT_EXPORTS).mkdir()
    (folder / KEPT_EXPORTS / "ct2-float32").symlink_to(elsewhere)
    with pytest.raises(InputError, match="ct2-float32: is a link"):
        load(folder, engine="ct2")
    assert (elsewhere / "thesis.txt").read_text() == "three years of work"


def test_an_export_that_answers_otherwise_is_not_written(folder, tmp_path, monkeypatch):
    model = load(folder)

    def other(part):
        found = open_export(part)
        with torch.no_grad():
            found.heads["classification"].output.bias += torch.tensor([9.0, 0.0, -9.0])
        return found

    monkeypatch.setattr("lmtasks.export.export.open_export", other)
    with pytest.raises(InputError, match="answers otherwise than the model"):
        export_model(model, "ct2", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_check_counts_what_differs():
    model = MODELS["classification"]()
    same = check_export(model, model)
    assert (same.same, same.count, same.difference, same.fits) == (16, 16, 0.0, True)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.heads["classification"].output.bias += torch.tensor([0.0, 0.01, 0.0])
    near = check_export(model, other)
    assert near.same >= 15
    assert near.difference > 1e-3
    assert not near.fits
    with torch.no_grad():
        other.heads["classification"].output.bias += torch.tensor([99.0, 0.0, 0.0])
    far = check_export(model, other)
    assert far.same < 14
    assert not far.alike


def test_a_check_is_of_each_task():
    tasks = {name: ClassificationTask(labels=("bad", "good")) for name in ("one", "two", "three", "four")}
    model = tiny(tasks, decoder_layers=0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.heads["two"].output.weight.neg_()
        other.heads["two"].output.bias.neg_()
    found = check_export(model, other)
    assert (found.same, found.count, found.alike) == (48, 64, False)


@pytest.mark.parametrize(
    ("to", "task", "cell", "problem"),
    [
        ("ct2", ClassificationTask(labels=("a", "b")), "lstm", "model.backbone is a RecurrentEncoder"),
        ("hf", ClassificationTask(labels=("a", "b")), "lstm", "model.backbone is a RecurrentConfig"),
        ("onnx", ClassificationTask(labels=("a", "b")), "gru", "model.backbone.cell gru"),
        ("onnx", TranslationTask(), "lstm", "model.backbone is a Recurrent, and only a Transformer writes"),
    ],
)
def test_a_recurrent_model_that_cannot_be_expressed_is_refused_in_one_line(to, task, cell, problem, tmp_path):
    backbone = RecurrentConfig(d_model=16, cell=cell, decoder_layers=int(task.generates))
    model = Model({"own": task}, backbone)
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    with pytest.raises(InputError, match=problem) as raised:
        export_model(model, to, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_recurrent_encoder_answers_in_onnx(tmp_path):
    model = Model({"own": ClassificationTask(labels=("a", "b"))}, RecurrentConfig(d_model=16, decoder_layers=0))
    model.build(Tokenizer.train([], TokenizerConfig("byte")))
    export_model(model, "onnx", tmp_path / "out")
    ours, theirs = (each.probabilities(SENTENCES) for each in (model, load(tmp_path / "out")))
    assert [each["a"] for each in theirs] == pytest.approx([each["a"] for each in ours], abs=1e-5)


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory):
    """A Python with the engines, numpy and tokenizers, and without torch and lmtasks."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    constraints = Path(__file__).parent.parent / "constraints.txt"
    packages = ["numpy", "tokenizers", "sentencepiece", "ctranslate2", "onnxruntime"]
    subprocess.run([folder / "bin/pip", "install", "-q", "-c", constraints, *packages], check=True)
    return folder / "bin/python"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["ct2", "onnx"])
@pytest.mark.parametrize("name", MODELS)
def test_the_program_of_an_export_answers_alike_without_torch(exports, bare_python, name, to):
    model, folder = exports(name, to)
    found = subprocess.run([bare_python, "-c", "import torch"], capture_output=True, check=False)
    assert found.returncode
    for row in ROWS.get(name, [{"text": text} for text in SENTENCES]):
        words = ["--target", "de"] * (name == "translation")
        words += [value if isinstance(value, str) else value[0] for value in row.values()]
        done = subprocess.run([bare_python, folder / "run.py", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        group = "en-de" if name == "translation" else None
        assert done.stdout.rstrip("\n").split("\t")[0] == model.solve([row], group=group)[0][0].text.rstrip("\n")


@pytest.mark.parametrize(
    "writing",
    [
        (), ("letters",), ("'s", "-", "@letters", "letters", "n't"), (",", ".", "letters", "’s"), ("#letters", LETTERS),
    ],
)  # fmt: skip
def test_programs_find_the_words_that_the_task_finds(writing):
    pattern = re.compile(word_pattern(writing))
    for text in (
        WORDS,
        "Anna's re-imagining, 1980! don't @home a-b-c 3.14 1,000",
        "l’ami’s d'accord — naïve cafe\u0301 हिन्दी में #tag ##two",
        "中文 mixed with English、かな カナ 12月 ไทย",
        "'s n't 's's ... @ @@a -a- a- _x_ \u00a0nbsp\ttab\nline",
        "",
    ):
        assert [match.span() for match in pattern.finditer(text)] == list(split_words(text, writing)), text
