"""Calls that could run code from a file or write outside a folder must not appear anywhere in what we ship."""

import ast
import re
import tomllib
from fnmatch import fnmatch

import nbformat
import pytest

from conftest import ROOT

SOURCES = sorted((ROOT / "classificador").rglob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))

SAFE_LOADS = {"json.load", "image.load", "safetensors.load", "np.load"}  # the last without allow_pickle, see below
JUST_MADE = "torch.export.load(io.BytesIO(file.getvalue()))"  # of bytes from a line before, not of a user's file


def unsafe_calls(code: str) -> list[str]:
    """The unsafe calls in a piece of code, as "line: call"."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
            from_torch = names[0].startswith("torch") and "load" in names[1:]
            if from_torch or {"pickle", "dill", "joblib", "marshal", "shelve"} & set(names):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        if not isinstance(node, ast.Call) or ast.unparse(node) == JUST_MADE:
            continue
        name = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if (
            (name.split(".")[-1] == "load" and name not in SAFE_LOADS and options.get("weights_only") != "True")
            or name.split(".")[-1] in ("extractall", "extract", "unpack_archive")
            or name in ("eval", "exec", "os.system")
            or options.get("shell") == "True"
            or (name.endswith("np.load") and options.get("allow_pickle") == "True")
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_unsafe_call_in_the_package(path):
    assert unsafe_calls(path.read_text(encoding="utf-8")) == []


def test_no_unsafe_call_in_the_notebook():
    cells = nbformat.read(ROOT / "Pytorch.ipynb", as_version=4).cells
    sources = [cell.source.replace("%matplotlib inline", "") for cell in cells if cell.cell_type == "code"]
    assert [call for source in sources for call in unsafe_calls(source)] == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "import pickle",
        "from pickle import loads",
        "from torch import load\nload(path)",
        "torch.jit.load(path)",
        "torch.export.load(path)",
        "from torch import load as l\nl(path, weights_only=False)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_search_finds_what_it_should(code):
    assert unsafe_calls(code)


def commands_of(name: str) -> set[str]:
    """The commands that run a test, named as in docs/promessas.md: a function, or a file from tests/ on."""
    project, commands = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")), set()
    unvisited = project["tool"]["pytest"]["ini_options"]["norecursedirs"]
    for path in (ROOT / "tests").rglob("test_*.py"):
        place = path.relative_to(ROOT)
        if place.as_posix() == name or f"\ndef {name}(" in path.read_text(encoding="utf-8"):
            left_out = any(fnmatch(part, out) for part in place.parts for out in unvisited)
            commands.add(f"make test-{place.parts[1]}" if left_out else "make test")
    return commands


def test_every_promise_says_with_which_command_its_tests_run():
    lines = (ROOT / "docs" / "promessas.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(rows) >= 16
    for promise, tests, command, _ in rows:
        named = {name: commands_of(name) for name in re.findall("`([^`]+)`", tests)}
        assert named and all(named.values()), (promise, named)
        assert set(re.findall("`([^`]+)`", command)) == set.union(*named.values()), (promise, named)
