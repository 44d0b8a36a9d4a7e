"""What the machine at hand makes of the trainer's settings."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from lmtasks.tasks.summarisation import SummarisationTask
from lmtasks.training import hardware


def test_a_process_of_the_tests_has_one_thread():
    assert torch.get_num_threads() == 1, "a test, or a library at import, sets more threads than conftest.py"
    assert os.environ["OMP_NUM_THREADS"] == os.environ["RAYON_NUM_THREADS"] == "1"  # for the processes that tests start
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


@pytest.mark.parametrize(
    ("strategy", "devices", "tasks", "expected"),
    [
        ("auto", 1, 2, "auto"),
        ("auto", 2, 1, "ddp"),
        ("auto", 2, 2, "ddp_find_unused_parameters_true"),
        ("ddp", 2, 2, "ddp_find_unused_parameters_true"),
        ("ddp_fork", 2, 2, "ddp_fork_find_unused_parameters_true"),
        ("ddp", 2, 1, "ddp"),
    ],
)
def test_several_tasks_tell_ddp_that_a_step_may_lack_one(strategy, devices, tasks, expected):
    settings = SimpleNamespace(strategy=strategy, devices=devices, num_nodes=1, accelerator="cpu")
    assert hardware.strategy(settings, [SummarisationTask()] * tasks) == expected


@pytest.mark.parametrize(
    ("precision", "accelerator", "has_gpu", "processor", "has_bfloat16", "expected"),
    [
        ("bf16-mixed", "cpu", False, "AVX2", False, "32-true"),
        ("bf16-mixed", "cpu", True, "AVX2", False, "32-true"),
        ("bf16-mixed", "auto", False, "AVX2", False, "32-true"),
        ("bf16-mixed", "auto", True, "AVX2", False, "bf16-mixed"),
        ("bf16-mixed", "gpu", True, "AVX2", False, "bf16-mixed"),
        ("bf16-mixed", "auto", False, "AVX512", False, "32-true"),
        ("bf16-mixed", "auto", False, "AVX512", True, "bf16-mixed"),
        ("bf16-mixed", "auto", False, "SVE256", False, "bf16-mixed"),
        ("bf16-true", "cpu", False, "AVX2", False, "bf16-true"),
        (None, "cpu", False, "AVX2", False, None),
    ],
)
def test_a_processor_that_emulates_bfloat16_trains_in_float32_and_says_so(
    precision, accelerator, has_gpu, processor, has_bfloat16, expected, monkeypatch, caplog
):
    caplog.set_level("INFO")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    settings = SimpleNamespace(precision=precision, accelerator=accelerator)
    assert hardware.precision(settings) == expected
    assert ("no bfloat16 instructions" in caplog.text) == (precision != expected)
