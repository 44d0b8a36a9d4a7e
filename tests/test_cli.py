"""The commands as a user types them: one tiny run, what can be done with it, and the mistakes of a first day."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import lmtasks
from lmtasks.cli.configs import find_config
from lmtasks.cli.fit import FitCLI
from lmtasks.cli.main import COMMANDS, main
from lmtasks.cli.messages import quiet
from lmtasks.errors import InputError
from lmtasks.storage.run_folder import find_weights, new_run
from lmtasks.training.callbacks.loggers import MetricsFile
from lmtasks.training.callbacks.randomness import RandomState
from lmtasks.training.callbacks.samples import Samples
from lmtasks.training.callbacks.signals import StopOnSignal
from lmtasks.training.module import TaskModule

CONFIG = """# lmtasks fit -c tiny.yaml
model:
  class_path: TranslationModule
  init_args:
    directions: [en-fr]
    backbone:
      class_path: TransformerConfig
      init_args: {d_model: 16, n_heads: 2, d_ff: 16, encoder_layers: 1, decoder_layers: 1}
    tokenizer: {vocab_size: 300}
    decoding: {beam: 2, max_length: 12}
    validation_decoding: {beam: 1, max_length: 4}
data:
  rows:
    class_path: Village
    init_args: {train: 40, validation: 4, test: 4}
  tokens_per_step: 256
trainer: {max_steps: 2, log_every_n_steps: 1, accelerator: cpu}
"""


def test_what_a_checkpoint_does_not_know_yet_has_its_default(cli, work):
    old = shutil.copytree(work / "runs/tiny", work / "runs/old")
    checkpoint = torch.load(old / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["lmtasks"]["settings"]["backbone"]["init_args"]["convolution"]
    torch.save(checkpoint, old / "checkpoints/last.ckpt")
    resume = ("fit", "-c", "runs/old", "--ckpt_path", "last", "--model.backbone.convolution", 3)
    status, _, (line,) = cli(*resume)
    assert status == 2
    assert "was trained with backbone.convolution = 0, not 3" in line


ROWS_APART = """# lmtasks fit -c apart.yaml
model:
  class_path: TaskModule
  init_args:
    tasks:
      mood: {class_path: ClassificationTask}
      french: {class_path: TranslationTask, init_args: {directions: [en-fr]}}
    backbone:
      class_path: TransformerConfig
      init_args: {d_model: 16, n_heads: 2, d_ff: 16, encoder_layers: 1, decoder_layers: 1}
    tokenizer: {vocab_size: 300}
    training: {schedule: {warmup: 1}}
    validation_decoding: {beam: 1, max_length: 4}
    decoding: {beam: 1, max_length: 4}
data:
  rows:
    mood: {class_path: Village, init_args: {train: 30, validation: 4, test: 4}}
    french: {class_path: Village, init_args: {train: 30, validation: 4, test: 4}}
  cache: cache
trainer: {max_steps: 2, log_every_n_steps: 1, accelerator: cpu}
"""
ROOT = Path(__file__).parent.parent


def _type_on_stdin(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with tiny.yaml and the run that `fit -c tiny.yaml` made of it."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(CONFIG)
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "-c", "tiny.yaml", "--data.cache", "cache"]) == 0
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def cli(work, monkeypatch, capsys):
    """Type a command in that folder: (exit status, stdout, lines of errors)."""
    monkeypatch.chdir(work)

    def typed(*arguments: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, [line for line in err.splitlines() if line.startswith("lmtasks:")]

    return typed


def test_help_lists_every_command_and_is_quick():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "lmtasks", "--help"]
    out = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert after.ru_utime - before.ru_utime < 0.3  # seconds of computing: a busy machine does not fail the test


def test_a_name_that_is_nowhere_is_found_before_torch_is_loaded(tmp_path):
    code = """
import sys
from lmtasks.cli.main import main
for command in (["fit", "-c", "nosuch"], ["run", "nosuch", "A text."], ["info", "nosuch"], ["attend", "nosuch", "x"]):
    assert main(command) == 2
print("torch" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 4


def test_an_unknown_command_is_named_with_the_nearest_one(cli):
    assert cli("fti") == (2, "", ["lmtasks: error: there is no command 'fti'; did you mean fit?"])


def test_version(cli):
    assert cli("--version")[:2] == (0, f"lmtasks {lmtasks.__version__}\n")


def test_fit_leaves_everything_in_the_run_folder(work):
    run = work / "runs/tiny"
    names = ["config.yaml", "checkpoints/last.ckpt", "metrics.csv", "samples.txt", "tokenizer.json"]
    names += [
        f"model/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "metrics.json")
    ]
    assert all((run / name).is_file() for name in names)
    assert not (run / "hparams.yaml").exists()
    metrics = json.loads((run / "model/metrics.json").read_text())
    assert {"test/translation/bleu", "test/translation/loss"} <= set(metrics["scores"])
    assert metrics["signatures"]["translation/bleu"].startswith("nrefs:1|case:mixed")


def test_the_saved_config_starts_the_run_anew_and_leaves_its_name_to_the_folder(work):
    config = yaml.safe_load((work / "runs/tiny/config.yaml").read_text())
    assert config["name"] is None
    assert config["ckpt_path"] is None
    assert config["trainer"]["default_root_dir"] is None


def test_the_packaged_configs_are_complete_and_short():
    from lmtasks.cli.configs import packaged_configs

    assert "quickstart" in packaged_configs()
    for name, path in packaged_configs().items():
        text = path.read_text()
        assert text.startswith("# lmtasks fit -c"), name
        assert len(text.splitlines()) < 60, name


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_understood(path, cli):
    status, out, errors = cli("fit", "-c", path, "--print_config")
    assert (status, errors) == (0, [])
    assert yaml.safe_load(out)["model"]["class_path"]


def test_a_second_fit_leaves_the_first_run_alone(cli, work):
    before = (work / "runs/tiny/checkpoints/last.ckpt").read_bytes()
    assert cli("fit", "-c", "tiny.yaml", "--trainer.max_steps", 1)[0] == 0
    assert (work / "runs/tiny-2/model/config.json").is_file()
    assert (work / "runs/tiny/checkpoints/last.ckpt").read_bytes() == before


def test_a_resume_stays_in_its_folder_and_keeps_its_metrics(cli, work):
    assert cli("fit", "-c", "tiny.yaml", "--name", "more", "--trainer.max_steps", 1)[0] == 0
    assert cli("fit", "-c", "runs/more", "--ckpt_path", "last", "--trainer.max_steps", 2)[0] == 0
    with (work / "runs/more/metrics.csv").open() as file:
        trained = [int(row["step"]) for row in csv.DictReader(file) if row["train/translation/loss"]]
    assert trained == [0, 1]
    checkpoint = torch.load(work / "runs/more/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


def test_a_resume_refuses_what_it_cannot_change(cli):
    status, _, (line,) = cli("fit", "-c", "tiny.yaml", "--ckpt_path", "last", "--model.training.optimizer.lr", 0.5)
    assert status == 2
    assert "was trained with model.training.optimizer.lr = 0.001, not 0.5" in line


def test_a_resume_refuses_another_schedule(cli):
    status, _, (line,) = cli("fit", "-c", "tiny.yaml", "--ckpt_path", "last", "--model.training.schedule.warmup", 5)
    assert status == 2
    assert "was trained with model.training.schedule.warmup = 1000, not 5" in line


SEVERAL = """# lmtasks fit -c several.yaml
model:
  class_path: TaskModule
  init_args:
    tasks:
      french: {class_path: TranslationTask, init_args: {directions: [en-fr]}}
      mood: {class_path: ClassificationTask}
    backbone:
      class_path: TransformerConfig
      init_args: {d_model: 16, n_heads: 2, d_ff: 16, encoder_layers: 1, decoder_layers: 1}
    tokenizer: {vocab_size: 300}
    training:
      joint: {weighting: {class_path: Static, init_args: {weights: {mood: 2}}}}
    decoding: {beam: 1, max_length: 4}
data:
  rows:
    class_path: Village
    init_args: {train: 40, validation: 4, test: 4}
  tokens_per_step: 512
  cache: cache
trainer: {max_steps: 1, limit_val_batches: 0, accelerator: cpu}
"""
FRENCH, MOOD = SEVERAL.splitlines(keepends=True)[5:7]
OTHER_TASKS = {  # file -> (its text, its tasks)
    "turned": (SEVERAL.replace(FRENCH + MOOD, MOOD + FRENCH), "mood, french"),
    "renamed": (SEVERAL.replace("mood", "feeling"), "french, feeling"),
    "more": (SEVERAL.replace(MOOD, MOOD + MOOD.replace("mood", "tone")), "french, mood, tone"),
}


@pytest.fixture(scope="module")
def several(work):
    """The run of two tasks in that folder, and configs of other tasks beside it."""
    here = Path.cwd()
    os.chdir(work)
    try:
        for name, text in {"several": SEVERAL, **{name: text for name, (text, _) in OTHER_TASKS.items()}}.items():
            Path(f"{name}.yaml").write_text(text)
        assert main(["fit", "-c", "several.yaml"]) == 0
    finally:
        os.chdir(here)
    return work / "runs/several"


@pytest.mark.parametrize("name", OTHER_TASKS)
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_checkpoint_of_other_tasks_or_of_another_order_is_refused(cli, several, name, command):
    arguments = ("-c", f"{name}.yaml", "--name", "several", "--ckpt_path", "last")
    status, out, (line,) = cli(command, *arguments)
    assert (status, out) == (2, "")
    assert f"last.ckpt was trained with the tasks french, mood, not {OTHER_TASKS[name][1]};" in line


def test_a_resume_may_watch_weigh_and_mend_otherwise(cli, several):
    shutil.copytree(several, several.with_name("watched"))
    resume = ("fit", "-c", "several.yaml", "--name", "watched", "--ckpt_path", "last", "--trainer.max_steps")
    joint = (
        "--model.training.joint.watch",
        "true",
        "--model.training.joint.surgery",
        "PCGrad",
        "--trainer.log_every_n_steps",
        1,
    )
    assert cli(*resume, 2, *joint, "--model.training.joint.weighting.weights", "{french: 0.5}")[0] == 0
    with (several.with_name("watched") / "metrics.csv").open() as file:
        (last,) = [row for row in csv.DictReader(file) if row.get("train/french/cosine_mood")]
    assert (float(last["train/french/weight"]), float(last["train/mood/weight"])) == (0.5, 1)
    status, _, (line,) = cli(*resume, 3, "--model.training.joint.weighting", "GradNorm")
    assert status == 2
    assert "was trained with model.training.joint.weighting = Static, not GradNorm" in line


def test_test_gives_the_table_that_fit_printed_of_averaged_weights(cli, work):
    average = ["--average.of", "last", "--average.count", 2, "--trainer.val_check_interval", 1]
    status, table, _ = cli("fit", "-c", "tiny.yaml", "--name", "mean", "--model.training.schedule.warmup", 0, *average)
    config = (work / "runs/mean/config.yaml").read_text()
    assert status == 0
    assert cli("test", "-c", "runs/mean")[:2] == (0, table)
    assert cli("test", "-c", "runs/mean", "--ckpt_path", "runs/mean/model")[:2] == (0, table)
    assert cli("test", "-c", "runs/mean", "--ckpt_path", "last")[1] != table
    assert (work / "runs/mean/config.yaml").read_text() == config


def test_best_says_so_where_no_checkpoint_has_a_score(work, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"callbacks": {"ModelCheckpoint{}": {}}}, tmp_path / "checkpoints/last.ckpt")
    assert find_weights(None, tmp_path, "max") == tmp_path / "checkpoints/last.ckpt"
    assert "last.ckpt has no scores of checkpoints" in caplog.text


def test_a_fit_without_checkpoints_inherits_no_metrics(cli, work):
    (work / "runs/bare").mkdir()
    (work / "runs/bare/metrics.csv").write_text("dead,step\n1.0,900\n")
    bare = ["--trainer.enable_checkpointing", "false", "--trainer.enable_progress_bar", "false"]
    assert cli("fit", "-c", "tiny.yaml", "--name", "bare", *bare)[0] == 0
    assert "dead" not in (work / "runs/bare/metrics.csv").read_text()
    assert not (work / "runs/bare/checkpoints").exists()


def test_metrics_of_steps_that_are_done_again_are_dropped_by_the_first_process(tmp_path, monkeypatch):
    rows, written = [f"{step},{step / 2}" for step in range(10)], MetricsFile(tmp_path)
    for step in range(10):
        written.log_metrics({"train/loss": step / 2}, step)
    for rank, kept in ((1, rows), (0, [*rows[:8], "8,7.0"])):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        again = MetricsFile(tmp_path)
        again.load_state_dict({"rows": 8})
        assert len(written.file.read_text().splitlines()) == 11  # nothing is dropped before there is something new
        again.log_metrics({"train/loss": 7.0}, 8)
        assert written.file.read_text().splitlines() == ["step,train/loss", *kept]


def test_two_runs_started_together_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    folders = [new_run("mine", str(tmp_path), []) for _ in range(2)]
    assert folders == [tmp_path / "mine", tmp_path / "mine-2"]
    monkeypatch.setenv("LOCAL_RANK", "1")  # as in a process that the trainer started
    assert new_run("mine", str(tmp_path), []) == tmp_path / "mine-2"


@pytest.mark.parametrize("problem", [["--trainer.devices", "0"], ["--data.rows.train", "0"]])
def test_a_fit_that_cannot_start_leaves_no_folder(cli, work, problem):
    assert cli("fit", "-c", "tiny.yaml", "--name", "nothing", *problem)[0] != 0
    assert not (work / "runs/nothing").exists()


def test_a_fit_that_took_no_step_leaves_nothing_but_what_was_there(cli, tmp_path, monkeypatch):
    (tmp_path / "apart.yaml").write_text(ROWS_APART)
    fit = ("fit", "-c", "apart.yaml", "--name", "mine")
    monkeypatch.setattr(TaskModule, "training_step", lambda *given: 1 / 0)  # the logs are begun by then
    monkeypatch.chdir(tmp_path)
    assert cli(*fit)[0] == 1
    assert not Path("runs").exists()
    Path("runs/mine/notes").mkdir(parents=True)
    Path("runs/mine/notes/a.txt").touch()
    assert cli(*fit)[0] == 1
    assert {str(path) for path in Path("runs").rglob("*")} == {"runs/mine", "runs/mine/notes", "runs/mine/notes/a.txt"}


def test_a_task_without_pictures_has_no_folder_in_the_run(cli, tmp_path, monkeypatch):
    (tmp_path / "apart.yaml").write_text(ROWS_APART)
    monkeypatch.chdir(tmp_path)
    assert cli("fit", "-c", "apart.yaml", "--name", "mine")[0] == 0
    assert not [path for path in Path("runs/mine").rglob("*") if path.is_dir() and not any(path.iterdir())]
    told = cli("info", "runs/mine")[1]
    assert "mood: Says which of 3 labels a text has: negative, neutral and positive." in told


def test_a_rehearsal_leaves_the_name_free(cli, work):
    assert cli("fit", "-c", "tiny.yaml", "--name", "rehearsal", "--trainer.fast_dev_run", "true")[0] == 0
    assert not (work / "runs/rehearsal/config.yaml").exists()


def test_a_callback_of_the_config_replaces_ours(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = [Samples, RandomState, StopOnSignal]
    options = [f"--trainer.callbacks+={kind.__module__}.{kind.__name__}" for kind in kinds]
    job = FitCLI("fit", [work / "tiny.yaml"], options)
    assert [sum(isinstance(callback, kind) for callback in job.trainer.callbacks) for kind in kinds] == [1, 1, 1]


def test_of_lightnings_log_only_the_useful_lines_are_seen():
    quiet()
    seen = {
        line: logging.getLogger(f"lightning.{name}").filter(logging.makeLogRecord({"msg": line}))
        for name, line in [
            ("fabric.utilities.seed", "Seed set to 1"),
            ("pytorch.utilities.rank_zero", "GPU available: False, used: False"),
            ("pytorch.utilities.rank_zero", "`Trainer.fit` stopped: `max_steps=2` reached."),
        ]
    }
    assert [bool(kept) for kept in seen.values()] == [False, False, True]


def test_of_lightnings_warnings_only_the_useful_ones_are_seen():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet()
        warnings.warn("Total length of `DataLoader` across ranks is zero. Please make sure this ...", stacklevel=1)
        warnings.warn("The number of training batches (1) is smaller than the logging interval ...", stacklevel=1)
        warnings.warn("Detected NaN", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["Detected NaN"]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ([], "no validation rows and no test rows: there are no scores, and the model is that of the last checkpoint"),
        (["test"], "no validation rows: no checkpoint counts as the best"),
        (["validation"], "no test rows: the scores are of the validation rows"),
    ],
)
def test_fit_says_what_follows_from_a_split_that_is_not_there(work, monkeypatch, capsys, splits, expected):
    monkeypatch.chdir(work)
    (work / "few.jsonl").write_text('{"en": "A dog.", "fr": "Un chien."}\n' * 4)
    options = [f"--data.rows.{split}=few.jsonl" for split in ("train", *splits)]
    assert (
        main(["fit", "-c", "tiny.yaml", "--name", "_".join(["few", *splits]), "--data.rows=ParallelText", *options])
        == 0
    )
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("no ")]
    assert len(said) == 1
    assert said[0].startswith(expected)


def test_validate_finds_the_run_by_the_name_of_its_config(cli):
    status, out, _ = cli("validate", "-c", "tiny.yaml", "--ckpt_path", "last")
    assert status == 0
    assert out.startswith("validation")


def test_predict_gives_a_line_for_each_row_in_order(cli, work):
    (work / "ask.en").write_text("The girl sings.\nA dog.\nThe old man sees a cow.\n")
    rows = ["--data.rows", "ParallelText", "--data.rows.predict", "ask.{lang}"]
    status, out, _ = cli("predict", "-c", "tiny.yaml", *rows)
    assert status == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == (work / "ask.en").read_text().splitlines()


def test_run_answers_arguments_stdin_and_files_alike(cli, work, monkeypatch):
    texts = ["The girl sings.", "", "A dog."]
    status, out, _ = cli("run", "runs/tiny", *texts)
    assert status == 0
    answers = out.splitlines()
    assert len(answers) == 3
    assert answers[1] == ""
    _type_on_stdin(monkeypatch, "\n".join(texts).encode() + b"\n")
    assert cli("run", "runs/tiny")[1] == out
    with gzip.open(work / "in.txt.gz", "wt") as file:
        file.write("\n".join(texts) + "\n")
    assert cli("run", "runs/tiny", "--input", "in.txt.gz", "--output", "out.txt")[:2] == (0, "")
    assert (work / "out.txt").read_text() == out


def test_run_answers_the_lines_before_one_that_is_not_utf8(cli, monkeypatch):
    _type_on_stdin(monkeypatch, b"A dog.\rA cow.\n\ncaf\xe9\nA cat.\n")
    status, out, (line,) = cli("run", "runs/tiny")
    assert status == 2
    assert len(out.split("\n")) == 3  # a lone \r ends no line
    assert "stdin, line 3: byte 4 is not UTF-8" in line


def test_run_adds_its_answers_to_json_lines(cli, work):
    (work / "in.jsonl").write_text('{"id": 7, "sentence": "A dog."}\n{"id": 8, "sentence": ""}\n')
    status, out, _ = cli("run", "runs/tiny", "--input", "in.jsonl", "--column", "sentence", "--n-best", 2)
    first, second = map(json.loads, out.splitlines())
    assert status == 0
    assert (first["id"], first["sentence"]) == (7, "A dog.")
    assert first["prediction"] == first["n_best"][0]["prediction"]
    assert first["n_best"][0]["score"] >= first["n_best"][1]["score"]
    assert second["prediction"] == ""


def test_run_says_which_row_lacks_the_column(cli, work):
    (work / "bad.jsonl").write_text('{"en": "A dog."}\n{"english": "A cow."}\n')
    status, _, (line,) = cli("run", "runs/tiny", "--input", "bad.jsonl")
    assert status == 2
    assert "bad.jsonl, row 2: nothing in column 'en' (columns: english)" in line


def test_run_puts_options_anywhere_and_scores_first(cli):
    plain = cli("run", "runs/tiny", "--beam", 2, "A dog.")[1]
    scored = cli("run", "--scores", "runs/tiny", "A dog.", "--beam", 2)[1]
    score, text = scored.rstrip("\n").split("\t")
    assert text == plain.rstrip("\n")
    assert float(score) < 0


def test_info_counts_every_parameter_once(cli):
    status, out, _ = cli("info", "runs/tiny", "--json")
    about = json.loads(out)
    assert status == 0
    counted = about["parameters"]
    assert counted["total"] == sum(parameter.numel() for parameter in lmtasks.load("runs/tiny").parameters())
    assert counted["total"] == counted["embedding"] + counted["backbone"] + counted["heads"]
    assert "2 steps" in cli("info", "runs/tiny/checkpoints/last.ckpt")[1]


def test_info_says_what_a_model_is_in_words(cli):
    lines = cli("info", "runs/tiny")[1].splitlines()
    labels = ["model", "tasks", "backbone", "parameters", "tokenizer", "training", "data", "scores", "checkpoints"]
    assert [line.split()[0] for line in lines if line[0] != " "] == labels
    assert lines[1].endswith("translation: Translates English into French.")
    assert "Transformer, 1 encoder layer and 1 decoder layer of width" in lines[2]
    assert re.fullmatch(r"scores +test/translation/bleu [\d.]+, test/score [\d.]+", lines[-2])


def test_attend_prints_a_line_for_each_target_token(cli, work):
    from lmtasks.reports.alignment import as_text

    weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    assert as_text([" the", " dog"], ["le", "chien"], weights).splitlines() == [
        "       the",
        "       │  dog",
        "   le  ██ ·",
        "chien  ▂▂ ▆▆",
    ]
    assert cli("attend", "runs/tiny", "A dog.", "--target", "fr", "--device", "cpu")[0] == 0
    assert "the model cannot translate" in cli("attend", "runs/tiny", "A dog.", "--target", "de")[2][0]


def test_attend_draws_a_picture(cli, work):
    pytest.importorskip("matplotlib")
    assert cli("attend", "runs/tiny", "It costs $5, not $6.", "Un chien.", "--output", "a.png")[0] == 0
    assert (work / "a.png").read_bytes().startswith(b"\x89PNG")
    status, _, (line,) = cli("attend", "runs/tiny", "A dog.", "--output", "a.gif")
    assert status == 2
    assert "a picture ends in .png, .svg or .pdf" in line


MISTAKES = {
    "wrong path of a model": (["run", "runs/tny", "A dog."], "runs/tny: there is no such file or folder"),
    "name of a run": (["run", "tiny", "A dog."], "tiny: there is no such file or folder; did you mean runs/tiny?"),
    "wrong path of a config": (["fit", "-c", "quickstrt"], "did you mean -c quickstart?"),
    "argument without -c": (["fit", "quickstart"], "unexpected argument 'quickstart'; did you mean -c quickstart?"),
    "misspelt option": (["fit", "-c", "tiny.yaml", "--trainer.max_step", "3"], "did you mean --trainer.max_steps?"),
    "end of an option": (["fit", "-c", "tiny.yaml", "--vocab_size", "3"], "did you mean --model.tokenizer.vocab_size?"),
    "misspelt option of run": (["run", "runs/tiny", "--beem", "2", "x"], "no option '--beem'; did you mean --beam?"),
    "misspelt setting": (
        ["fit", "-c", "tiny.yaml", "--model.backbone.d_modl", "8"],
        "did you mean --model.backbone.d_model?",
    ),
    "misspelt class": (
        ["fit", "-c", "tiny.yaml", "--model.backbone", "TransformrConfig"],
        "did you mean TransformerConfig?",
    ),
    "wrong type": (
        ["fit", "-c", "tiny.yaml", "--trainer.max_steps", "many"],
        "error: --trainer.max_steps must be int, not 'many'",
    ),
    "wrong type in a class": (
        ["fit", "-c", "tiny.yaml", "--model.backbone.d_model", "1.5"],
        "error: --model.backbone.d_model must be int, not '1.5'",
    ),
    "none of several types": (
        ["fit", "-c", "tiny.yaml", "--seed_everything", "x"],
        "--seed_everything must be bool or int, not 'x'",
    ),
    "none of the choices": (
        ["fit", "-c", "tiny.yaml", "--model.training.schedule.kind", "cosin"],
        "--model.training.schedule.kind must be one of 'inverse_sqrt', 'cosine'",
    ),
    "no class of that kind": (
        ["fit", "-c", "tiny.yaml", "--data.rows", "X"],
        "for --data.rows; there are ",
    ),
    "no model of that kind": (
        ["fit", "-c", "tiny.yaml", "--model", "TranslationTask"],
        "did you mean TranslationModule?",
    ),
    "no list": (
        ["fit", "-c", "tiny.yaml", "--model.directions", "en-fr"],
        "--model.directions must be a list such as [a, b], not 'en-fr'",
    ),
    "no such callback": (
        ["fit", "-c", "tiny.yaml", "--trainer.callbacks", "Foo"],
        "no class 'Foo' for --trainer.callbacks; write the whole path",
    ),
    "wrong value": (
        ["fit", "-c", "tiny.yaml", "--model.decoding.beam", "0"],
        "decoding.beam is 0; give a number from 1",
    ),
    "nothing given": (["fit"], "give a config (-c quickstart)"),
    "no such checkpoint": (
        ["test", "-c", "tiny.yaml", "--ckpt_path", "step=9.ckpt"],
        "there are runs/tiny/checkpoints/",
    ),
    "a name outside": (
        ["fit", "-c", "tiny.yaml", "--name", "../../x"],
        "--name '../../x': expected the name of a folder",
    ),
    "a long name": (["fit", "-c", "tiny.yaml", "--name", "x" * 300], "of at most 200 bytes"),
    "no name": (["fit", "-c", "tiny.yaml", "--name", ".."], "--name '..': expected the name of a folder"),
    "no run yet": (["test", "-c", "tiny.yaml", "--name", "new"], "there is no run folder runs/new"),
    "nothing trained": (["predict", "-c", "tiny.yaml", "--name", "new"], "`lmtasks fit` trains one, --ckpt_path names"),
    "another model": (["test", "-c", "tiny.yaml", "--model.backbone.d_ff", "8"], "backbone.d_ff = 16, not 8"),
    "no such split": (["predict", "-c", "tiny.yaml"], "data.rows.predict"),
    "unsafe strategy": (["fit", "-c", "tiny.yaml", "--trainer.strategy", "ddp_spawn"], "use ddp"),
    "misspelt metric": (["score", "acuracy", "a", "b"], "METRIC: there is no 'acuracy'; did you mean accuracy?"),
    "no such metric": (["score", "xyz", "a", "b"], "there is no 'xyz'; choose one of bleu, chrf, ter"),
    "beam too narrow": (["run", "runs/tiny", "x", "--n-best", "3", "--beam", "2"], "raise beam to 3 or lower n_best"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_clear_line(cli, mistake):
    arguments, expected = MISTAKES[mistake]
    status, out, (line,) = cli(*arguments)
    assert (status, out) == (2, "")
    assert expected in line


TASK_MISTAKES = {
    "--data.rows.moood.train 3": "--data.rows.moood.train: the model has no task 'moood'; did you mean mood?",
    "--data.rows.moood Table": "data.rows.moood: the model has no task 'moood'; did you mean mood? it has mood, french",
    "--model.tasks.moood.pair true": "--model.tasks.moood.pair: the model has no task 'moood'; did you mean mood?",
    "--data.rows.mood.tran 3": "there is no setting --data.rows.mood.tran; did you mean --data.rows.mood.train?",
    "--data.rows.french.train many": "--data.rows.french.train must be int, not 'many'",
    "--data.rows.mood Tabel": "there is no class 'Tabel' for --data.rows.mood; did you mean Table?",
    "--model.tasks.mood.paar true": "no setting --model.tasks.mood.paar; did you mean --model.tasks.mood.pair?",
}


@pytest.mark.parametrize("options", TASK_MISTAKES)
def test_a_mistake_in_an_option_of_one_of_several_tasks_names_the_option_and_the_task(cli, work, options):
    (work / "apart.yaml").write_text(ROWS_APART)
    status, _, (line,) = cli("fit", "-c", "apart.yaml", *options.split())
    assert status == 2
    assert TASK_MISTAKES[options] in line


def test_rows_of_one_task_are_no_option_where_all_tasks_share_one_format(cli, work):
    (work / "shared.yaml").write_text(SEVERAL)
    faults = {"mood": "data.rows is one Village for all tasks; give each its own in a config, data.rows: {mood: ...}"}
    faults["moood"] = "the model has no task 'moood'; did you mean mood? it has french, mood"
    for task, fault in faults.items():
        status, _, (line,) = cli("fit", "-c", "shared.yaml", f"--data.rows.{task}.train", "x.csv")
        assert status == 2
        assert f"--data.rows.{task}.train: {fault}" in line


def test_a_mistake_in_the_config_of_one_of_several_tasks_names_its_line(cli, work):
    (work / "apart.yaml").write_text(ROWS_APART)
    faults = {"tran: 3": "there is no setting data.rows.french.tran; did you mean data.rows.french.train?"}
    faults["train: many"] = "data.rows.french.train must be int, not 'many'"
    for setting, fault in faults.items():
        (work / "french.yaml").write_text(
            f"data:\n  rows:\n    french: {{class_path: Village, init_args: {{{setting}}}}}\n"
        )
        status, _, (line,) = cli("fit", "-c", "apart.yaml", "-c", "french.yaml")
        assert status == 2
        assert f"french.yaml, line 3: {fault}" in line
    unmade = ROWS_APART.replace("    mood: {class_path: Village", "    mood: {class_path: Vilage")
    (work / "unmade.yaml").write_text(unmade)
    line = cli("fit", "-c", "unmade.yaml")[2][0]
    assert "unmade.yaml, line 17: there is no class 'Vilage' for data.rows.mood; did you mean Village?" in line
    (work / "unmade.yaml").write_text(ROWS_APART.replace("    mood: {class_path: Village", "    mood: {klass: Village"))
    line = cli("fit", "-c", "unmade.yaml", "--data.rows.mood.train", "3")[2][0]
    assert "nothing says of which class data.rows.mood is; give --data.rows.mood CLASS first" in line


def test_a_wrong_column_names_file_and_columns(cli, work):
    (work / "pairs.jsonl").write_text('{"en": "A dog.", "french": "Un chien."}\n')
    rows = ["--data.rows", "ParallelText", "--data.rows.train", "pairs.jsonl"]
    status, _, (line,) = cli("fit", "-c", "tiny.yaml", "--name", "column", *rows)
    assert status == 2
    assert "pairs.jsonl" in line
    assert "french" in line


def test_a_mistake_in_a_config_names_file_and_line(cli, work):
    (work / "typo.yaml").write_text(CONFIG.replace("n_heads", "n_head"))
    status, _, (line,) = cli("fit", "-c", "typo.yaml")
    assert status == 2
    assert "typo.yaml, line 8: there is no setting model.backbone.n_head; did you mean model.backbone.n_heads?" in line
    (work / "broken.yaml").write_text("model:\n  a: b: c\n")
    assert "broken.yaml, line 2: no valid YAML" in cli("fit", "-c", "broken.yaml")[2][0]


def test_a_config_that_is_not_there_is_said_to_be_what_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/config.yaml").touch()
    (tmp_path / "runs/empty").mkdir()
    expected = {
        "": "-c needs the name of a config",
        "--trainer.max_steps": "-c needs the name of a config",
        "mine": "did you mean -c runs/mine?",
        "runs/mne": "did you mean -c runs/mine?",
        "runs/another": "there is no such file or run folder; the packaged configs are",
        "runs/empty": "this folder is no run, it has no config.yaml; the packaged configs are",
        "configs/quickstart.yml": "did you mean -c quickstart?",
        "another.yaml": "there is no such file; the packaged configs are",
    }
    for name, line in expected.items():
        with pytest.raises(InputError, match=re.escape(line)):
            find_config(name)


def test_an_option_beats_a_config_wherever_it_stands(cli):
    out = cli("fit", "--trainer.max_steps", 7, "-c", "tiny.yaml", "--print_config")[1]
    assert yaml.safe_load(out)["trainer"]["max_steps"] == 7


def test_debug_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setattr("lmtasks.cli.main._dispatch", lambda arguments: 1 / 0)
    assert main(["info", "x"]) == 1
    assert (
        capsys.readouterr().err == "lmtasks: error: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    )
    assert main(["info", "x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_and_a_closed_pipe_are_no_errors(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("lmtasks.cli.main._dispatch", interrupted)
    assert main(["info", "x"]) == 130
    command = (
        f"{sys.executable} -c 'import sys; from lmtasks.cli.main import main; sys.exit(main([\"--help\"]))' | true"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_class_brings_its_own_defaults(tmp_path):
    from lmtasks.backbones.recurrent import RecurrentConfig
    from lmtasks.cli.fit import FitCLI
    from lmtasks.training.optim.optimizers import Muon

    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("directions", "training: {optimizer: {lr: 0.5}}\n    directions"))
    options = [
        "--model.training.optimizer",
        "Muon",
        "--model.backbone",
        "RecurrentConfig",
        "--model.backbone.d_model",
        "16",
    ]
    job = FitCLI("fit", [config], [*options, f"--trainer.default_root_dir={tmp_path}"])
    assert job.model.training_config.optimizer == Muon()
    assert job.model.backbone_config == RecurrentConfig(d_model=16)


def test_the_same_class_keeps_its_settings(tmp_path):
    from lmtasks.cli.fit import FitCLI

    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    options = ["--model.backbone.dropout", "0.25", f"--trainer.default_root_dir={tmp_path}"]
    backbone = FitCLI("fit", [config], options).model.backbone_config
    assert (backbone.d_model, backbone.encoder_layers, backbone.dropout) == (16, 1, 0.25)


def test_the_lstm_config_has_as_many_layers_as_its_class(tmp_path):
    from lmtasks.cli.configs import find_config
    from lmtasks.cli.fit import FitCLI

    job = FitCLI("fit", [find_config("multi30k-de-en-lstm")], [f"--trainer.default_root_dir={tmp_path}"])
    assert (job.model.backbone_config.encoder_layers, job.model.backbone_config.decoder_layers) == (1, 1)


def test_a_run_that_fails_after_a_step_keeps_what_it_logged(cli, work, monkeypatch):
    def fail(module, outputs, batch, number):
        if number == 1:
            raise RuntimeError("the disk is full")

    monkeypatch.setattr(TaskModule, "on_train_batch_end", fail)
    status, _, (line,) = cli("fit", "-c", "tiny.yaml", "--name", "failed")
    assert status == 1
    assert "the disk is full" in line
    assert "train/translation/loss" in (work / "runs/failed/metrics.csv").read_text()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_an_accelerator_that_is_not_here_is_one_line_and_leaves_nothing(cli, work):
    status, _, (line,) = cli("fit", "-c", "tiny.yaml", "--name", "absent", "--trainer.accelerator", "gpu")
    assert status == 2
    assert line.startswith("lmtasks: error: trainer: ")
    assert not (work / "runs/absent").exists()
