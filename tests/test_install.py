"""What `make` installs, up to the commands: on Linux without an NVIDIA GPU, builds of PyTorch without CUDA."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("make"), reason="make, on Linux")


def commands(folder, *variables, nvidia=False) -> str:
    """What `make .venv/.pronto` would run; with the tools of this machine, and nvidia-smi only if asked for."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("make", "sh", "uname", "grep", "echo", "python3"):
        (tools / name).symlink_to(shutil.which(name))
    if nvidia:
        (tools / "nvidia-smi").write_text("")
        (tools / "nvidia-smi").chmod(0o755)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "requirements.txt", folder)
    environment = {name: value for name, value in os.environ.items() if name not in ("TORCH_INDEX", "MAKEFLAGS")}
    ran = subprocess.run(
        ["make", "-n", ".venv/.pronto", *variables],
        cwd=folder,
        env=environment | {"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def pins() -> str:
    return " ".join(re.findall(r"^torch.*", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


def test_without_a_gpu_of_nvidia_torch_comes_without_cuda(tmp_path):
    assert f"--index-url {CPU_BUILDS} {pins()} ||" in commands(tmp_path)


def test_with_one_or_where_asked_for_the_ordinary_builds_come(tmp_path):
    for number, (variables, nvidia) in enumerate([((), True), (("TORCH_INDEX=",), False)]):
        (tmp_path / str(number)).mkdir()
        assert '[ -n "" ]' in commands(tmp_path / str(number), *variables, nvidia=nvidia)


def test_another_place_is_named_by_one_variable(tmp_path):
    assert "--index-url file:///mnt/torch torch==" in commands(tmp_path, "TORCH_INDEX=file:///mnt/torch")


def test_the_documented_line_has_the_same_versions():
    assert f"pip install {pins()} --index-url {CPU_BUILDS}" in (ROOT / "docs" / "avancado.md").read_text()
