"""The package is a house of rooms: each imports only from itself and from the rooms before it."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from classificador import _HOME as HOME
from conftest import ROOT

PACKAGE = ROOT / "classificador"
ROOMS = ("", "data", "network", "files", "results", "training", "show", "apps")  # "": the modules at the top
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.stem.startswith("__"))
NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def room(name: str) -> int:
    """The number of the room that a module, classificador.ROOM.MODULE, is in."""
    names = name.split(".")
    return ROOMS.index(names[1]) if len(names) > 1 and names[1] in ROOMS else 0


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports anywhere, also within functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("classificador"):
            for name in (alias.name for alias in node.names):
                home = HOME.get(name, name) if node.module == "classificador" else name
                whole = f"{node.module}.{home}"
                yield whole if whole in NAMES.values() else node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: NAMES[path])
def test_imports_go_one_way(path: Path):
    assert [name for name in imports(path) if room(name) > room(NAMES[path])] == []


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter({NAMES[path]: set(imports(path)) for path in MODULES}).prepare()  # its error names the circle


def test_functions_and_classes_stay_of_readable_size():
    """40 lines a function, 120 a class, five parameters that are not sizes; fit() is the front door."""
    exempt = {"fit", "redirect_request"}  # the second is called by urllib
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= (40 if isinstance(node, ast.FunctionDef) else 120), (
                    f"{path}: {node.name}, {lines} lines"
                )
            if isinstance(node, ast.FunctionDef) and node.name not in exempt:
                names = {argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
                others = names - {"self", "cls", "channels", "kernels", "pools", "hidden", "classes", "side"}
                assert len(others) <= 5, f"{path}: {node.name}{sorted(others)}"


def test_every_folder_of_the_package_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ROOMS) - {""}


def test_type_checkers_see_the_names_of_the_front_door():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"classificador.{home}" for name, home in HOME.items()}
