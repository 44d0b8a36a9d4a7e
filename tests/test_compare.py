"""`lmtasks compare`: the scores of several runs side by side, and the pictures of what they logged."""

from __future__ import annotations

import json
import math
import re

import pytest

from lmtasks.cli.main import main
from lmtasks.errors import InputError
from lmtasks.reports import curves
from lmtasks.reports.comparison import as_plain, as_text, compare, notes, read_runs, shortest_names
from lmtasks.reports.curves import mean_cosines, smoothed
from lmtasks.settings import FORMAT, to_plain
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.translation import TranslationTask

TASKS = {
    "fr": TranslationTask(directions=["en-fr"]),
    "mood": ClassificationTask(),
    "classification": ClassificationTask(),
}
MAIN = {"fr": "bleu", "mood": "accuracy", "classification": "accuracy"}


def write_run(folder, scores=None, history=(), signatures=None, split="test", tasks=None):
    """Write what `compare` reads of a run: `scores` are {task: main score}, None for a run that was not tested."""
    model = folder / "model"
    model.mkdir(parents=True)
    given = tasks or scores or {}
    (model / "config.json").write_text(
        json.dumps({"format": FORMAT} | to_plain({"tasks": {task: TASKS[task] for task in given}}))
    )
    named = {f"{split}/{task}/{MAIN[task]}": score for task, score in (scores or {}).items()}
    (model / "metrics.json").write_text(json.dumps({"scores": named, "signatures": signatures or {}}))
    if history:
        columns = list(dict.fromkeys(name for row in history for name in row))
        lines = [",".join(str(row.get(name, "")) for name in columns) for row in history]
        (folder / "metrics.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    return folder


def compared(*folders):
    runs = read_runs([folder if isinstance(folder, tuple) else (folder, "") for folder in folders])
    return runs, compare(runs)


def rows(text):
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def joint(tmp_path):
    return write_run(tmp_path / "joint", {"fr": 30.0, "mood": 90.0})


def test_runs_of_one_task_share_a_column_and_what_is_learned_together_is_set_against_them(tmp_path, joint):
    fr, mood = write_run(tmp_path / "f", {"fr": 31.5}), write_run(tmp_path / "m", {"mood": 88.0})
    for order in ((joint, fr, mood), (fr, joint, mood)):
        text = as_text(compared(*order)[1])
        assert sorted(rows(text)) == sorted(
            [
                ["test", "metric", "alone", "joint", "vs", "alone"],
                ["fr", "bleu", "31.50", "30.00", "-1.50"],
                ["mood", "accuracy", "88.00", "90.00", "+2.00"],
                ["mean", "of", "2", "59.75", "60.00", "+0.25"],
                [],
                ["alone:", "fr", "of", "f,", "mood", "of", "m"],
            ]
        )
    assert len({len(line) for line in text.splitlines()[:4]}) == 1


def test_what_a_run_has_not_learned_is_a_dash_and_no_part_of_the_mean(tmp_path, joint):
    text = as_text(compared(joint, write_run(tmp_path / "m", {"mood": 90.0}))[1])
    assert rows(text) == [
        ["test", "metric", "m", "joint", "vs", "m"],
        ["fr", "bleu", "-", "30.00", "-"],
        ["mood", "accuracy", "90.00", "90.00", "0.00"],
        ["mean", "of", "1", "90.00", "90.00", "0.00"],
    ]


def test_other_runs_are_set_against_the_first_one_by_one(tmp_path, joint):
    second = write_run(tmp_path / "second", {"mood": 91.0, "fr": 33.0})
    half = write_run(tmp_path / "half", {"mood": 95.0})
    again = write_run(tmp_path / "again", {"mood": 80.0})
    _, found = compared(joint, second, half, again)  # two runs of mood alone: there is no one column for them
    assert rows(as_text(found)) == [
        ["test", "metric", "joint", "second", "vs", "joint", "half", "vs", "joint", "again", "vs", "joint"],
        ["fr", "bleu", "30.00", "33.00", "+3.00", "-", "-", "-", "-"],
        ["mood", "accuracy", "90.00", "91.00", "+1.00", "95.00", "+5.00", "80.00", "-10.00"],
        ["mean", "of", "shared", "62.00", "+2.00", "95.00", "+5.00", "80.00", "-10.00"],
    ]


def test_one_run_is_its_scores(joint):
    assert len(rows(as_text(compared(joint)[1]))) == 3


def test_the_only_task_of_a_run_can_be_called_as_the_others_call_it(tmp_path, joint):
    history = [{"step": 3, "train/classification/loss": 0.5}]
    single = write_run(tmp_path / "m", {"classification": 85.0}, history)
    runs, found = compared(joint, single)
    assert not found.means
    assert notes(runs, found)[-1].endswith(f"give {single}=NAME")
    runs, found = compared(joint, (single, "mood"))
    assert found.means["joint"].gain == 5.0
    assert runs[1].history == [{"step": 3, "train/mood/loss": 0.5}]
    assert not notes(runs, found)
    with pytest.raises(InputError, match="2 tasks"):
        compared((joint, "mood"))


def test_without_a_test_the_best_validation_counts_for_all(tmp_path):
    score = "validation/score"
    history = [
        {"step": 9, score: 40.0, "validation/mood/accuracy": 40.0},
        {"step": 19, score: 70.0, "validation/mood/accuracy": 70.0},
        {"step": 29, score: math.nan, "validation/mood/accuracy": 90.0},
        {"step": 39, score: 60.0, "validation/mood/accuracy": 60.0},
    ]
    tested = write_run(tmp_path / "tested", {"mood": 80.0}, history)
    untested = write_run(tmp_path / "untested", {"mood": 65.0}, split="validation")
    runs, found = compared(tested, untested)
    assert found.splits == {"mood": "validation"}
    assert [scores["mood"] for scores in found.columns.values()] == [70.0, 65.0]
    assert notes(runs, found) == ["no test scores of mood in untested: these are of the best validation"]
    with pytest.raises(InputError, match="no scores of the same split"):
        compared(write_run(tmp_path / "only", {"mood": 80.0}), untested)


def write_split(folder, test, validation):
    """Write a run with scores of some tasks on test rows and of others on validation rows, as `fit` leaves them."""
    write_run(folder, tasks=(*test, *validation))
    splits = {"test": test, "validation": validation}
    named = {f"{split}/{task}/{MAIN[task]}": score for split, own in splits.items() for task, score in own.items()}
    (folder / "model" / "metrics.json").write_text(json.dumps({"scores": named}))
    return folder


def test_a_task_without_test_rows_is_compared_by_its_validation_score_and_the_others_by_the_test(tmp_path):
    first = write_split(tmp_path / "first", {"fr": 30.0}, {"mood": 80.0})
    second = write_split(tmp_path / "second", {"fr": 31.0}, {"mood": 84.0})
    runs, found = compared(first, second)
    assert rows(as_text(found)) == [
        ["split/task", "metric", "first", "second", "vs", "first"],
        ["test/fr", "bleu", "30.00", "31.00", "+1.00"],
        ["validation/mood", "accuracy", "80.00", "84.00", "+4.00"],
        ["mean", "of", "2", "55.00", "57.50", "+2.50"],
    ]
    assert {task: each["split"] for task, each in as_plain(found)["tasks"].items()} == found.splits
    assert notes(runs, found) == ["no test scores of mood in first, second: these are of the best validation"]


def test_the_best_validation_stands_in_where_another_run_has_no_test_scores_of_a_task(tmp_path):
    history = [{"step": 9, "validation/score": 60.0, "validation/fr/bleu": 29.0, "validation/mood/accuracy": 91.0}]
    tested = write_run(tmp_path / "tested", {"fr": 30.0, "mood": 90.0}, history)
    half = write_split(tmp_path / "half", {"fr": 31.0}, {"mood": 84.0})
    runs, found = compared(tested, half)
    assert found.splits == {"fr": "test", "mood": "validation"}
    assert list(found.columns.values()) == [{"fr": 30.0, "mood": 91.0}, {"fr": 31.0, "mood": 84.0}]
    assert notes(runs, found) == ["no test scores of mood in half: these are of the best validation"]


def test_a_task_of_no_common_split_is_a_dash_with_a_note(tmp_path):
    tested = write_run(tmp_path / "tested", {"fr": 30.0, "mood": 90.0})
    half = write_split(tmp_path / "half", {"fr": 31.0}, {"mood": 84.0})
    runs, found = compared(tested, half)
    assert rows(as_text(found))[2] == ["mood", "accuracy", "-", "-", "-"]
    assert notes(runs, found) == ["mood has no scores of the same split in all runs: tested test; half validation"]


def test_no_weights_are_read_of_a_model_folder(joint):
    assert sorted(file.name for file in (joint / "model").iterdir()) == ["config.json", "metrics.json"]
    assert compared(joint)[1].columns["joint"] == {"fr": 30.0, "mood": 90.0}


def test_scores_that_are_computed_otherwise_are_told(tmp_path):
    runs, found = compared(
        *(write_run(tmp_path / tok, {"fr": 30.0}, signatures={"fr/bleu": f"tok:{tok}"}) for tok in ("13a", "char"))
    )
    assert notes(runs, found) == ["fr/bleu is computed in different ways: 13a tok:13a; char tok:char"]


def test_runs_of_the_same_name_have_the_shortest_paths_that_tell_them_apart(tmp_path):
    paths = [tmp_path / name for name in ("x/1/run", "y/1/run", "y/2/run", "other")]
    assert shortest_names(paths) == ["x/1/run", "y/1/run", "2/run", "other"]
    with pytest.raises(InputError, match="given twice"):
        shortest_names([paths[0], paths[0].parent / "." / "run"])


def test_the_command_prints_json_and_takes_a_model_folder_for_its_run(tmp_path, joint, capsys):
    single = write_run(tmp_path / "m", {"classification": 85.0})
    assert main(["compare", str(joint / "model"), f"{single}=mood", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == {"joint": str(joint), "m": str(single)}
    assert found["tasks"]["mood"] == {
        "metric": "accuracy",
        "split": "test",
        "scores": {"m": 85.0, "joint": 90.0},
        "gains": {"joint": 5.0},
    }
    assert found["tasks"]["fr"]["gains"] == {"joint": None}
    assert found["means"]["joint"] == {"tasks": ["mood"], "score": 90.0, "against": 85.0, "gain": 5.0}
    assert found == as_plain(compared(joint, (single, "mood"))[1])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["joint", "jont"], "did you mean .*joint"),
        (["empty"], "neither a model folder"),
        (["unscored"], "no scores yet"),
        (["joint/model/config.json"], "give the folder of a run"),
        (["joint", "joint"], "given twice"),
        (["joint", "=mood"], "RUN=TASK"),
        (["joint=mood"], "2 tasks"),
        (["joint", "--pictures", "a.txt"], "that is a file"),
        (["joint", "--pictures", "no/where"], "there is no folder no"),
        (["broken"], "is damaged, or no JSON"),
        (["text"], "metrics.csv"),
        (["foreign"], "foreign.*: the model was made with own.Task, a class that is not imported"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(tmp_path, joint, monkeypatch, capsys, arguments, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    write_run(tmp_path / "unscored", tasks=("mood",))
    write_run(tmp_path / "text", {"mood": 1.0}, [{"step": 3, "train/mood/loss": "low"}])
    (write_run(tmp_path / "broken", {"mood": 1.0}) / "model" / "config.json").write_text("{")
    config = write_run(tmp_path / "foreign", {"mood": 1.0}) / "model" / "config.json"
    saved = json.loads(config.read_text())
    saved["tasks"]["mood"] = {"class_path": "own.Task"}
    config.write_text(json.dumps(saved))
    assert main(["compare", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(fault, line), line


def test_the_gradients_of_a_run_are_means_over_the_steps_that_have_them(tmp_path):
    steps = [{"step": step, "train/fr/cosine_mood": value} for step, value in enumerate((-0.5, 0.3, 0.8))]
    (run,), _ = compared(write_run(tmp_path / "j", {"fr": 1.0, "mood": 2.0}, [*steps, {"step": 3}]))
    assert mean_cosines(run) == {("fr", "mood"): (pytest.approx(0.2), pytest.approx(1 / 3))}


def test_smoothing_keeps_what_does_not_change_and_forgets():
    assert smoothed([2.0] * 5, back=3) == pytest.approx([2.0] * 5)
    assert smoothed([4.0, 0.0], back=1e-9) == pytest.approx([4.0, 0.0])
    falling = smoothed([1.0] + [0.0] * 50, back=3)
    assert falling == sorted(falling, reverse=True)


def test_pictures_are_drawn_of_what_was_logged(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    history = [
        {"step": step, **{f"train/{task}/loss": 3 / (step + 1) for task in ("fr", "mood")}} for step in range(9, 99, 10)
    ]
    watched = [
        {**row, "train/fr/cosine_mood": -0.1, "train/fr/gradient_norm": 2.0, "train/mood/gradient_norm": 0.5}
        for row in history
    ]
    watched.append({"step": 99, "validation/fr/loss": 1.0, "validation/mood/loss": 0.2})
    for name, rows_of in (("a", watched), ("b", history), ("c", ())):
        write_run(tmp_path / "runs" / name, {"fr": 1.0, "mood": 2.0}, rows_of)
    write_run(tmp_path / "more" / "a", {"fr": 1.0, "mood": 2.0}, watched)
    folders = [tmp_path / "runs" / name for name in "abc"] + [tmp_path / "more" / "a"]
    assert main(["compare", *map(str, folders), "--pictures", str(tmp_path / "pictures")]) == 0
    drawn = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert drawn == ["gradients-more-a.png", "gradients-runs-a.png", "losses.png"]
    assert capsys.readouterr().err.count("picture: ") == len(drawn)


def test_runs_without_logs_have_no_pictures_and_the_command_says_so(joint, tmp_path, capsys):
    assert main(["compare", str(joint), "--pictures", str(tmp_path / "pictures")]) == 0
    assert "nothing to draw" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()


def test_the_validation_of_the_model_that_was_kept_is_no_point_of_its_curve(tmp_path):
    steps = [
        {"step": step, "validation/score": 1.0, "validation/mood/loss": loss} for step, loss in ((3, 0.9), (7, 0.7))
    ]
    last = {"step": 8, "validation/score": 9.0, "validation/mood/accuracy": 9.0, "validation/mood/loss": 0.8}
    averaged = write_run(tmp_path / "averaged", {"mood": 9.0}, [*steps, last], split="validation")
    tested = write_run(tmp_path / "tested", {"mood": 9.0}, [*steps, {"step": 8, "test/mood/accuracy": 9.0}])
    one, other = read_runs([(averaged, ""), (tested, "")])
    for run in (one, other):
        assert curves._losses(run, "mood", "validation") == [(4, 0.9), (8, 0.7)]
    assert one.scores["validation"]["mood/accuracy"] == 9.0


def test_colours_of_cosines_are_of_one_scale_which_the_picture_shows(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    scales = []
    draw = Figure.colorbar
    monkeypatch.setattr(
        Figure, "colorbar", lambda *given, **how: scales.append(given[1].get_clim()) or draw(*given, **how)
    )
    for cosine in (0.08, 0.9):
        row = {
            "step": 9,
            "train/fr/cosine_mood": cosine,
            "train/fr/gradient_norm": 2.0,
            "train/mood/gradient_norm": 0.5,
        }
        (run,), _ = compared(write_run(tmp_path / str(cosine), {"fr": 1.0, "mood": 2.0}, [row]))
        curves.draw([run], tmp_path / "pictures")
    assert scales == [(-1, 1)] * 2


def test_a_step_is_counted_from_one_and_a_loss_that_is_no_number_left_out(tmp_path):
    history = [{"step": 0, "train/mood/loss": 2.0}, {"step": 1, "train/mood/loss": math.nan}]
    (run,), _ = compared(write_run(tmp_path / "j", {"mood": 2.0}, history))
    assert curves._losses(run, "mood") == [(1, 2.0)]
