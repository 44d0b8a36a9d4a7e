"""lmtasks push, and what it uploads: a hub on this machine, which the client of the Hugging Face hub talks to."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from test_export import MODELS, tiny

from lmtasks.cli.main import main
from lmtasks.cli.push import files_of
from lmtasks.errors import InputError
from lmtasks.export.export import export_model
from lmtasks.storage.model_folder import load, save
from lmtasks.tasks.classification import ClassificationTask
from lmtasks.tasks.translation import TranslationTask
from lmtasks.training.init_from import Source

COMMIT = "1f2e" * 10


class Hub(ThreadingHTTPServer):
    """A hub with one model, which it forgets in the end."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, dict]] = []  # the requests that change something
        self.refuses = 0  # the status of the answer to every such request; 0 = it takes them

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Requests(BaseHTTPRequestHandler):
    """What the client asks, in the words of the API of the hub."""

    server: Hub

    def do_HEAD(self) -> None:
        self.answer_file(with_content=False)

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self.answer_file(with_content=True)
        elif "/tree/" in self.path:
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(own), "oid": "0"}
                    for name, own in self.server.files.items()
                ]
            )
        else:
            self.answer(
                {"sha": COMMIT, "id": "anna/mood", "siblings": [{"rfilename": each} for each in self.server.files]}
            )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            self.answer({}, self.server.refuses)
        elif "/preupload/" in self.path:
            names = [each["path"] for each in json.loads(body)["files"]]
            self.answer({"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in names]})
        elif "/commit/" in self.path:
            header, *changes = map(json.loads, body.splitlines())
            self.server.asked.append((self.path, header["value"]))
            for change in changes:
                if change["key"] == "deletedFile":
                    del self.server.files[change["value"]["path"]]
                else:
                    self.server.files[change["value"]["path"]] = base64.b64decode(change["value"]["content"])
            self.answer({"commitOid": COMMIT, "commitUrl": f"{self.server.address}/anna/mood/commit/{COMMIT}"})
        else:
            if self.path != "/api/validate-yaml":  # of the header of README.md
                self.server.asked.append((self.path, json.loads(body)))
            self.answer({"url": f"{self.server.address}/anna/mood"})

    def answer_file(self, with_content: bool) -> None:
        name = self.path.partition("/resolve/")[2].partition("/")[2]  # behind the revision
        if "/resolve/" in self.path and name not in self.server.files:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            return
        content = self.server.files.get(name, b"")
        self.answer(
            content, headers={"X-Repo-Commit": COMMIT, "ETag": hashlib.sha1(content).hexdigest()}, sent=with_content
        )

    def answer(
        self, content: object, status: int = 200, headers: dict[str, str] | None = None, sent: bool = True
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if sent:
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_tiny")
    yield server
    server.shutdown()
    server.server_close()


def test_push_uploads_the_model_and_its_card_and_nothing_else(hub, tmp_path, capsys):
    folder = save(MODELS["classification"](), tmp_path / "run" / "model")
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "run" / "checkpoints").mkdir()
    assert main(["push", str(tmp_path / "run"), "anna/mood", "--private", "--message", "The first"]) == 0
    names = ["README.md", "SHA256SUMS", "config.json", "metrics.json", "model.safetensors", "tokenizer.json"]
    assert hub.files == {name: (folder / name).read_bytes() for name in names}
    made, (path, commit) = hub.asked
    assert made == ("/api/repos/create", {"name": "mood", "organization": "anna", "visibility": "private"})
    assert (path, commit["summary"]) == ("/api/models/anna/mood/commit/main", "The first")
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("6 files, ")
    assert told[0].endswith(f" MB: {', '.join(names)}")
    assert told[1:] == [f"{hub.address}/anna/mood"]


def test_push_makes_the_branch_that_it_uploads_to(hub, tmp_path, capsys):
    folder = save(MODELS["classification"](), tmp_path / "model")
    assert main(["push", str(folder), "anna/mood", "--revision", "v2"]) == 0
    assert [path for path, _ in hub.asked][1:] == ["/api/models/anna/mood/branch/v2", "/api/models/anna/mood/commit/v2"]
    assert capsys.readouterr().out.endswith("/anna/mood/tree/v2\n")


def test_a_model_that_was_pushed_loads_and_is_described_and_imported_by_its_name(hub, tmp_path, capsys):
    folder = save(MODELS["classification"](), tmp_path / "model", {"test/classification/accuracy": 87.5})
    assert main(["push", str(folder), "anna/mood"]) == 0
    found = load("anna/mood")
    assert found.probabilities("Anna") == load(folder).probabilities("Anna")
    capsys.readouterr()
    assert main(["info", "anna/mood"]) == 0
    assert "test/classification/accuracy 87.50" in capsys.readouterr().out
    assert main(["import", "anna/mood", "--output", str(tmp_path / "again")]) == 0
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert len(Source("anna/mood").tokenizer((), ())) == len(found.tokenizer)  # of init_from


def test_a_model_folder_on_the_hub_without_its_tokenizer_is_named(hub, tmp_path):
    assert main(["push", str(save(MODELS["classification"](), tmp_path / "model")), "anna/mood"]) == 0
    del hub.files["tokenizer.json"]
    with pytest.raises(InputError, match=r"a model folder of lmtasks without tokenizer\.json"):
        load("anna/mood")


@pytest.mark.parametrize("engine", ["ct2", "onnx"])
def test_an_export_that_was_pushed_loads_by_its_name(hub, tmp_path, monkeypatch, capsys, engine):
    model = MODELS["classification"]()
    export_model(model, engine, tmp_path / "out")
    assert main(["push", str(tmp_path / "out"), "anna/mood"]) == 0
    assert {"lmtasks.json", "run.py"} <= set(hub.files)
    for offline in (False, True):  # once it is in the cache, it needs no network
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert load("anna/mood").probabilities("Anna") == pytest.approx(model.probabilities("Anna"), abs=1e-5)
    capsys.readouterr()
    assert main(["info", "anna/mood"]) == 0
    assert f"{engine}, float32" in capsys.readouterr().out


def test_an_export_with_an_encoder_of_its_own_is_pushed_whole_and_replaces_a_model(hub, tmp_path):
    assert main(["push", str(save(MODELS["classification"](), tmp_path / "model")), "anna/mood"]) == 0
    hub.files["notes.txt"] = b"mine"
    tasks = {"translation": TranslationTask(("en-de",)), "mood": ClassificationTask(labels=("bad", "good"))}
    model = tiny(tasks)
    export_model(model, "ct2", tmp_path / "out")
    assert main(["push", str(tmp_path / "out"), "anna/mood"]) == 0
    assert {"model.bin", "encoder/model.bin", "notes.txt"} <= set(hub.files)
    assert not {"model.safetensors", "metrics.json"} & set(hub.files)  # which would be loaded in its place
    assert set(load("anna/mood").tasks) == set(tasks)


def test_push_leaves_out_states_of_trainings_and_hidden_files(tmp_path):
    folder = tmp_path / "others"
    (folder / ".git").mkdir(parents=True)
    (folder / "checkpoint-500").mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for name in (
        "model.safetensors",
        "optimizer.pt",
        "rng_state_0.pth",
        "last.ckpt",
        ".secret",
        "checkpoint-500/model.pt",
    ):
        (folder / name).write_bytes(b"")
    assert files_of(folder) == (folder, ["config.json", "model.safetensors"])


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "it does not know the token; log in"),
        (403, "the token may not write there; is anna your name"),
        (404, "it knows no anna"),
        (500, "Server"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, tmp_path, capsys, status, reason):
    folder, hub.refuses = save(MODELS["classification"](), tmp_path / "model"), status
    assert main(["push", str(folder), "anna/mood"]) == 2
    told = capsys.readouterr().err
    assert f"anna/mood: the Hugging Face hub did not take it: {reason}" in told
    assert told.count("\n") == 1
    assert not hub.files


def test_push_needs_a_network_a_token_a_name_and_a_model_folder(hub, tmp_path, monkeypatch, capsys):
    folder, checkpoint = save(MODELS["classification"](), tmp_path / "model"), tmp_path / "last.ckpt"
    checkpoint.touch()

    def refusal(*arguments: object) -> str:
        assert main(["push", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "'mood' is no name on the hub; write OWNER/NAME" in refusal(folder, "mood")
    assert "is a checkpoint, which holds the state of a training; give a model folder" in refusal(
        checkpoint, "anna/mood"
    )
    assert "anna/mood: there is no such folder here" in refusal("anna/mood", "anna/mood")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "the Hugging Face hub cannot be reached (HF_HUB_OFFLINE is set)" in refusal(folder, "anna/mood")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)  # whoever tests may have logged in
    assert "there is no token of the Hugging Face hub here; log in by hf auth login" in refusal(folder, "anna/mood")
