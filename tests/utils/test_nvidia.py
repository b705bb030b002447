"""Cards as a driver's library tells of them: a small one in C, built here, in the place of NVML."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mlx_finetuning import doctor
from mlx_finetuning.utils import blas, nvidia
from mlx_finetuning.utils.memory_monitor import Memory

NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(unsigned long)(index + 1); return 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    strcpy(name, "NVIDIA L4"); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory *found) {
    found->total = 24000000000ULL; found->free = 1000000000ULL * (unsigned long)device;
    return device == (void *)2 ? 15 : 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler, which MLX on the CPU wants too")
    path = tmp_path_factory.mktemp("nvml") / "libnvml.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=NVML.encode(), check=True)
    return str(path)


def test_cards_are_named_with_their_memory_and_broken_ones_left_out(library: str) -> None:
    first, last = nvidia.cards(library)
    assert first == nvidia.Card("NVIDIA L4", Memory(24 * 10**9, 10**9))
    assert last.memory.available == 3 * 10**9


def test_without_a_driver_there_are_no_cards(tmp_path: Path) -> None:
    assert nvidia.cards(str(tmp_path / "libnvml.so")) == ()
    assert nvidia.cards("libc.so.6") == ()


def test_doctor_says_when_mlx_leaves_a_card_idle(library: str) -> None:
    on_cpu = blas.Measurement("cpu", 100.0, blas.BlasInfo("loaded"))
    idle = doctor.check_cards(on_cpu, library)
    assert idle.state == "warn" and "cuda13" in idle.advice
    assert "NVIDIA L4（24.0 GB、空き 1.0 GB）" in idle.value
    on_gpu = blas.Measurement("gpu", 9e4, blas.BlasInfo("loaded"), "NVIDIA L4", 24 * 10**9)
    assert doctor.check_cards(on_gpu, library).state == "ok"
    assert "NVIDIA L4（メモリー 24.0 GB" in doctor.check_mlx(on_gpu).value
    assert doctor.check_cards(on_cpu, "libnone.so").state == "ok"
