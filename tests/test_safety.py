"""Calls that could run code from a file or write outside a folder must not appear anywhere in what we ship."""

import ast
import re

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


def test_the_tests_that_prove_the_promises_are_run():
    """By `make test`; those that the page names with browser/ before them, by `make test-browser`."""
    promises = (ROOT / "docs" / "promessas.md").read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?(browser/)?(test_\w+(?:\.py)?)`", promises)
    assert len(named) >= 8
    for folder, name in named:
        tests = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests" / folder).glob("test_*.py")}
        assert name in tests or any(f"def {name}(" in source for source in tests.values())
