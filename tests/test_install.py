"""What `make` installs, up to the commands: on Linux without an NVIDIA GPU, builds of PyTorch without CUDA."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from classificador.apps.support import missing
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


@pytest.mark.parametrize(
    ("here", "said"),
    [
        (("linux", "x86_64", (3, 11), 64), ""),
        (("darwin", "arm64", (3, 14), 64), ""),
        (("win32", "AMD64", (3, 12), 64), ""),
        (("linux", "x86_64", (3, 10), 64), "Preciso do Python 3.11 a 3.14"),
        (("linux", "x86_64", (3, 15), 64), "não existe para o Python 3.15"),
        (("win32", "AMD64", (3, 12), 32), "Python de 32 bits"),
        (("darwin", "x86_64", (3, 12), 64), "Macs com processador Intel"),
    ],
)
def test_what_pip_could_not_bring_is_told_before_it_tries(here, said):
    assert said in missing(*here) and bool(missing(*here)) == bool(said)


def test_make_asks_before_it_installs(tmp_path):
    installed = commands(tmp_path).splitlines()
    asked = next(number for number, line in enumerate(installed) if "classificador/apps/support.py" in line)
    assert asked < next(number for number, line in enumerate(installed) if "-m venv" in line)
    python = str(ROOT / "classificador" / "apps" / "support.py")
    assert subprocess.run([sys.executable, python], capture_output=True).returncode == 0


def brought_by(written: list[str], extras: dict[str, list[str]]) -> set[str]:
    """The distributions that pip installs for requirements, and for the requirements of those; extras: our own."""
    found, waiting = set(), [Requirement(text) for text in written]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name == "classificador":
            waiting += [Requirement(text) for extra in wanted.extras for text in extras[extra]]
        elif name not in found and (not wanted.marker or wanted.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += [Requirement(text) for text in metadata.requires(name) or []]
    return found


def test_make_lint_knows_the_types_of_every_import_from_what_it_installs():
    """On a clean checkout: what another command has brought since, playwright for one, does not count."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    mypy, project = settings["tool"]["mypy"], settings["project"]
    known = {pattern for rule in mypy["overrides"] if rule.get("ignore_missing_imports") for pattern in rule["module"]}
    extras = project["optional-dependencies"]
    brought = brought_by(project["dependencies"] + extras["dev"], extras)
    homes = metadata.packages_distributions()
    for path in (path for folder in mypy["files"] for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                top = name.partition(".")[0]
                ours = top in mypy["files"] or top in sys.stdlib_module_names
                listed = any(fnmatchcase(name, pattern) or name + ".*" == pattern for pattern in known)
                assert ours or listed or {canonicalize_name(home) for home in homes.get(top, [])} & brought, (
                    f"{path}: {name}"
                )
