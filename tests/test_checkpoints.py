"""Checkpoints: whole or not at all, checked when read, exact at a resume, the right ones kept."""

import os
import re
import resource
import shutil
import signal
import time
import zipfile
from pathlib import Path

import fsspec
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from lmtasks.errors import InputError
from lmtasks.storage.checkpoint import last_checkpoint, read_checkpoint
from lmtasks.storage.reading import FORCED
from lmtasks.training.callbacks.checkpoints import Checkpoints, SafeCheckpointIO, replacing, steps_to_keep
from lmtasks.training.callbacks.randomness import RandomState

EPOCH = 6  # batches


class Toy(LightningModule):
    """A layer with dropout, and a validation that draws random numbers."""

    def __init__(self, scores=()):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 4)
        self.scores = list(scores)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.dropout(self.layer(batch), 0.5).square().mean()

    def validation_step(self, batch, batch_idx):
        torch.rand(3)
        if self.scores and not self.trainer.sanity_checking:
            self.log("validation/score", self.scores.pop(0))
        self.log("validation/loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)

    def loader(self, batches):
        data = torch.randn(batches, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(data, batch_size=1, generator=torch.Generator())

    def train_dataloader(self):
        return self.loader(EPOCH)

    def val_dataloader(self):
        return self.loader(1)


def make_trainer(folder, *callbacks, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plugins = [SafeCheckpointIO()]
    settings = {"accelerator": "cpu", "max_epochs": -1, **quiet, **settings}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), plugins=plugins, **settings)


def files(folder):
    return sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())


def save(path, value=1.0):
    SafeCheckpointIO().save_checkpoint({"weights": torch.full((5,), value), "step": 3}, path)
    return path


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_a_saved_checkpoint_is_read_back_and_a_copy_alone_too(tmp_path):
    copy = shutil.copy(save(tmp_path / "a.ckpt"), tmp_path / "elsewhere.ckpt")
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "elsewhere.ckpt"]
    for path in (tmp_path / "a.ckpt", copy):
        read = SafeCheckpointIO().load_checkpoint(path)
        assert read["step"] == 3
        assert read["weights"].tolist() == [1.0] * 5


def test_no_flipped_bit_changes_what_is_read_without_an_error(tmp_path):
    path = save(tmp_path / "a.ckpt")
    good, right = path.read_bytes(), read_checkpoint(path)
    messages = []
    for place in range(0, len(good), 5):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        try:
            read = read_checkpoint(path)
        except InputError as error:
            messages.append(str(error))
        else:
            assert read["step"] == right["step"]
            assert torch.equal(read["weights"], right["weights"])
    assert len(messages) > 50
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)


def test_a_flip_in_the_weights_is_refused_where_torch_reads_on(tmp_path):
    path = save(tmp_path / "a.ckpt")
    data = bytearray(path.read_bytes())
    data[data.index(torch.ones(5).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(5))
    with pytest.raises(InputError, match="checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_file_cut_off_is_refused(tmp_path, keep):
    path = save(tmp_path / "a.ckpt")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(InputError, match="damaged, cut off or no checkpoint"):
        read_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"weights": Evil()}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"a\.ckpt"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("remote", [False, True])
def test_no_variable_makes_a_checkpoint_run_code(tmp_path, monkeypatch, remote):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"weights": Evil()}, tmp_path / "a.ckpt")
    monkeypatch.setenv(FORCED, "1")
    place = f"memory://{tmp_path}/a.ckpt" if remote else str(tmp_path / "a.ckpt")
    if remote:
        fsspec.filesystem("memory").pipe(place, (tmp_path / "a.ckpt").read_bytes())
    with pytest.raises(InputError, match=f"^{re.escape(place)}: cannot be read as a checkpoint of tensors"):
        SafeCheckpointIO().load_checkpoint(place, weights_only=False)
    assert not (tmp_path / "evil").exists()
    assert os.environ[FORCED] == "1"


def test_a_checkpoint_at_an_address_is_read(tmp_path):
    path = save(tmp_path / "a.ckpt")
    fsspec.filesystem("memory").pipe("memory://b.ckpt", path.read_bytes())
    found = SafeCheckpointIO().load_checkpoint("memory://b.ckpt")
    assert torch.equal(found["weights"], read_checkpoint(path)["weights"])
    with pytest.raises(InputError, match=r"memory://none\.ckpt: cannot be read"):
        SafeCheckpointIO().load_checkpoint("memory://none.ckpt")


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(200 * 2**20))
    began = time.process_time()
    with pytest.raises(InputError, match=r"a\.ckpt: unpacks to more than it is"):
        read_checkpoint(tmp_path / "a.ckpt")
    assert time.process_time() - began < 0.1


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.ckpt: there is no such checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "file" / "a.ckpt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "a.ckpt")


def test_a_full_disk_is_an_error_and_the_old_file_stays_good(tmp_path):
    path = save(tmp_path / "a.ckpt")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # bytes; a stand-in for a full disk
    try:
        with pytest.raises(InputError, match=r"a\.ckpt: cannot be written"):
            SafeCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == ["a.ckpt"]
    assert read_checkpoint(path)["weights"].tolist() == [1.0] * 5


def test_a_kill_in_the_middle_leaves_the_old_file_and_the_next_save_cleans_up(tmp_path):
    path = save(tmp_path / "a.ckpt")
    child = os.fork()
    if child == 0:
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [".a.ckpt.part", "a.ckpt"]
    assert read_checkpoint(path)["weights"].tolist() == [1.0] * 5
    save(tmp_path / "b.ckpt")
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "b.ckpt"]


def test_an_error_while_saving_keeps_its_name_and_the_old_file(tmp_path):
    path = save(tmp_path / "a.ckpt")
    with pytest.raises(AttributeError, match="local object"):
        SafeCheckpointIO().save_checkpoint({"a": lambda: None}, path)
    assert os.listdir(tmp_path) == ["a.ckpt"]
    assert read_checkpoint(path)["step"] == 3


@pytest.mark.parametrize("stop", [3, EPOCH], ids=["inside an epoch", "at its end"])
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(tmp_path, stop):
    class TrainDataset(Toy):
        def train_dataloader(self):  # the rows that are left, as the data module of this library deals them
            rows = torch.randn(2 * EPOCH, 1, 4, generator=torch.Generator().manual_seed(1))
            start = self.trainer.global_step
            return DataLoader(rows[start:], batch_size=None, generator=torch.Generator())

    straight = TrainDataset()
    make_trainer(tmp_path / "a", RandomState(), Checkpoints(), max_steps=9, val_check_interval=2).fit(straight)
    first, second = TrainDataset(), TrainDataset()
    make_trainer(tmp_path / "b", RandomState(), Checkpoints(), max_steps=stop, val_check_interval=2).fit(first)
    torch.manual_seed(99)
    path = last_checkpoint(tmp_path / "b")
    assert read_checkpoint(path)["global_step"] == stop
    trainer = make_trainer(tmp_path / "b", RandomState(), Checkpoints(), max_steps=9, val_check_interval=2)
    trainer.fit(second, ckpt_path=path)
    assert trainer.global_step == 9
    assert torch.equal(weights(straight), weights(second))
    assert not torch.equal(weights(first), weights(second))


def test_the_random_state_of_another_number_of_processes_is_left_alone(tmp_path):
    make_trainer(tmp_path, RandomState(), Checkpoints(), max_steps=1, limit_val_batches=0).fit(Toy())
    checkpoint = read_checkpoint(last_checkpoint(tmp_path))
    checkpoint["random_state"] *= 2
    SafeCheckpointIO().save_checkpoint(checkpoint, tmp_path / "two.ckpt")
    trainer = make_trainer(tmp_path, RandomState(), Checkpoints(), max_steps=2, limit_val_batches=0)
    with pytest.warns(UserWarning, match="2 processes and this run has 1"):
        trainer.fit(Toy(), ckpt_path=tmp_path / "two.ckpt")


def test_steps_to_keep_are_the_best_and_the_newest():
    scores = {10: 0.5, 20: float("nan"), 30: 0.1, 40: 0.5, 50: None}
    assert steps_to_keep(scores, 2, 2, "min") == ([30, 10], [40, 50])
    assert steps_to_keep(scores, 3, 0, "max") == ([10, 40, 30], [])
    assert steps_to_keep(scores, 9, 9, "min") == ([30, 10, 40, 20], [10, 20, 30, 40, 50])
    assert steps_to_keep({}, 1, 1, "min") == ([], [])


def test_the_best_and_the_last_are_kept_and_last_is_the_newest(tmp_path):
    checkpoints = Checkpoints("validation/score", mode="max", best=2, keep_last=1)
    trainer = make_trainer(tmp_path, checkpoints, max_steps=5, val_check_interval=1)
    trainer.fit(Toy(scores=[0.1, 0.9, 0.2, 0.5, 0.3]))
    assert files(tmp_path) == ["last.ckpt", "step=2.ckpt", "step=4.ckpt", "step=5.ckpt"]
    assert [Path(path).name for path in checkpoints.best_paths] == ["step=2.ckpt", "step=4.ckpt"]
    assert [Path(path).name for path in checkpoints.last_paths] == ["step=5.ckpt"]
    assert Path(checkpoints.best_model_path).name == "step=2.ckpt"
    assert float(checkpoints.best_model_score) == pytest.approx(0.9)
    last = last_checkpoint(tmp_path)
    assert not last.is_symlink()
    assert read_checkpoint(last)["global_step"] == 5
    assert read_checkpoint(tmp_path / "checkpoints" / "step=2.ckpt")["global_step"] == 2


def test_last_is_the_newest_where_it_is_not_the_best_and_after_a_resume_in_a_moved_folder(tmp_path):
    checkpoints = Checkpoints("validation/score", best=1)
    make_trainer(tmp_path / "a", checkpoints, max_steps=3, val_check_interval=1).fit(Toy(scores=[0.1, 0.2, 0.3]))
    assert files(tmp_path / "a") == ["last.ckpt", "step=1.ckpt"]
    assert read_checkpoint(last_checkpoint(tmp_path / "a"))["global_step"] == 3
    (tmp_path / "a").rename(tmp_path / "b")
    checkpoints = Checkpoints("validation/score", best=1)
    trainer = make_trainer(tmp_path / "b", checkpoints, max_steps=5, val_check_interval=1)
    trainer.fit(Toy(scores=[0.4, 0.05]), ckpt_path="last")
    assert files(tmp_path / "b") == ["last.ckpt", "step=5.ckpt"]
    assert read_checkpoint(last_checkpoint(tmp_path / "b"))["global_step"] == 5


def test_steps_and_the_end_are_saved_without_validation(tmp_path):
    checkpoints = Checkpoints(keep_last=3, every_n_steps=2)
    make_trainer(tmp_path, checkpoints, max_steps=5, limit_val_batches=0).fit(Toy())
    assert files(tmp_path) == ["last.ckpt", "step=2.ckpt", "step=4.ckpt", "step=5.ckpt"]


class StopAt(Callback):
    """Tell training to stop after a step, or leave after it as `StopOnSignal` does."""

    def __init__(self, step, leave):
        self.step, self.leave = step, leave

    def on_train_batch_end(self, trainer, *args, **kwargs):
        trainer.should_stop = trainer.should_stop or (trainer.global_step == self.step and not self.leave)

    def on_train_batch_start(self, trainer, *args, **kwargs):
        if self.leave and trainer.global_step == self.step:
            trainer.checkpoint_callback.interrupt(trainer)
            raise SystemExit(130)


def test_an_interruption_is_no_checkpoint_among_the_last(tmp_path):
    trainer = make_trainer(
        tmp_path, StopAt(3, leave=True), Checkpoints(keep_last=2, every_n_steps=2), max_steps=6, limit_val_batches=0
    )
    with pytest.raises(SystemExit):
        trainer.fit(Toy())
    assert files(tmp_path) == ["last.ckpt", "step=2.ckpt"]
    assert read_checkpoint(last_checkpoint(tmp_path))["global_step"] == 3
    checkpoints = Checkpoints(keep_last=2, every_n_steps=2)
    make_trainer(tmp_path, checkpoints, max_steps=6, limit_val_batches=0).fit(Toy(), ckpt_path="last")
    assert [Path(path).name for path in checkpoints.last_paths] == ["step=4.ckpt", "step=6.ckpt"]


def test_a_run_that_a_limit_ends_keeps_its_last_step(tmp_path):
    checkpoints = Checkpoints(keep_last=2, every_n_steps=2)
    make_trainer(tmp_path, StopAt(3, leave=False), checkpoints, max_steps=6, limit_val_batches=0).fit(Toy())
    assert files(tmp_path) == ["last.ckpt", "step=2.ckpt", "step=3.ckpt"]


@pytest.mark.parametrize("monitor", ["validation/score", None])
def test_a_finished_run_that_is_resumed_knows_its_checkpoints(tmp_path, monitor):
    first, second = (Checkpoints(monitor, mode="max", keep_last=2) for _ in range(2))
    make_trainer(tmp_path, first, max_steps=3, val_check_interval=1).fit(Toy(scores=[0.1, 0.9, 0.2]))
    trainer = make_trainer(tmp_path, second, max_steps=3, val_check_interval=1)
    trainer.fit(Toy(), ckpt_path=last_checkpoint(tmp_path))
    assert trainer.global_step == 3
    assert Path(second.best_model_path).name == ("step=2.ckpt" if monitor else "last.ckpt")
    for name in ("best_model_path", "last_model_path", "best_paths", "last_paths", "best_model_score"):
        assert getattr(second, name) == getattr(first, name)


def test_a_finished_run_whose_checkpoints_are_gone_has_the_one_it_was_given(tmp_path):
    make_trainer(tmp_path / "a", Checkpoints(keep_last=2), max_steps=1, limit_val_batches=0).fit(Toy())
    checkpoints = Checkpoints(keep_last=2)
    trainer = make_trainer(tmp_path / "b", checkpoints, max_steps=1, limit_val_batches=0)
    trainer.fit(Toy(), ckpt_path=last_checkpoint(tmp_path / "a"))
    assert checkpoints.last_paths == []
    assert Path(checkpoints.best_model_path) == last_checkpoint(tmp_path / "a")


def test_minutes_are_a_reason_to_save(tmp_path):
    checkpoints = Checkpoints(keep_last=9, every_n_minutes=0)
    make_trainer(tmp_path, checkpoints, max_steps=2, limit_val_batches=0, accumulate_grad_batches=2).fit(Toy())
    assert files(tmp_path) == ["last.ckpt", "step=1.ckpt", "step=2.ckpt"]


def test_the_end_of_an_epoch_is_saved_without_validation(tmp_path):
    make_trainer(tmp_path, Checkpoints(keep_last=9), max_epochs=2, limit_val_batches=0).fit(Toy())
    assert files(tmp_path) == ["last.ckpt", f"step={2 * EPOCH}.ckpt", f"step={EPOCH}.ckpt"]


def test_a_misspelt_monitor_lists_the_metrics_that_there_are(tmp_path):
    trainer = make_trainer(tmp_path, Checkpoints("validation/los"), max_steps=1, val_check_interval=1)
    with pytest.raises(InputError, match=r"'validation/los' is not a metric.*: validation/loss$"):
        trainer.fit(Toy())


def test_best_and_last_are_what_lightning_calls_so(tmp_path):
    checkpoints = Checkpoints("validation/score")
    trainer = make_trainer(tmp_path, checkpoints, max_steps=2, val_check_interval=1)
    trainer.fit(Toy(scores=[0.1, 0.2]))
    best, last = (
        read_checkpoint(path)["state_dict"] for path in (checkpoints.best_paths[0], last_checkpoint(tmp_path))
    )
    for name, expected in (("best", best), ("last", last)):
        module = Toy()
        trainer.validate(module, ckpt_path=name, verbose=False)
        assert torch.equal(module.layer.weight, expected["layer.weight"])


def test_a_new_run_says_that_it_replaces_an_old_one(tmp_path):
    make_trainer(tmp_path, Checkpoints(), max_steps=1, limit_val_batches=0).fit(Toy())
    with pytest.warns(UserWarning, match="is of an earlier run"):
        make_trainer(tmp_path, Checkpoints(), max_steps=1, limit_val_batches=0).fit(Toy())
