"""Train, evaluate and use a small CIFAR-10 classifier: the package behind `Pytorch.ipynb`.

Names are loaded when first used, so that `import classificador` costs nothing (torch alone takes over a second).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, for type checkers and editors; a test keeps both equal
    from classificador.constants import CLASSES
    from classificador.data.dataset import ImageData, load_cifar10
    from classificador.data.folders import load_data
    from classificador.errors import (
        CheckpointError,
        ClassificadorError,
        DataError,
        DivergenceError,
        ExportError,
        ImageError,
        SettingsError,
        WriteError,
    )
    from classificador.files.model_file import load_model, read_checkpoint
    from classificador.network.build import build, make_optimizer
    from classificador.network.cnn import CNN, Symmetric
    from classificador.network.model_info import describe_checkpoint
    from classificador.recipes import Settings, make_settings
    from classificador.results.metrics import evaluate
    from classificador.results.predict import is_doubtful, predict, predict_image
    from classificador.show.summary import layer_table
    from classificador.training.fit import fit
    from classificador.training.start import find_start

_NAMES = {
    "constants": "CLASSES",
    "data.dataset": "ImageData load_cifar10",
    "data.folders": "load_data",
    "errors": "CheckpointError ClassificadorError DataError DivergenceError ExportError ImageError SettingsError "
    "WriteError",
    "files.model_file": "load_model read_checkpoint",
    "network.model_info": "describe_checkpoint",
    "network.build": "build make_optimizer",
    "network.cnn": "CNN Symmetric",
    "recipes": "Settings make_settings",
    "results.metrics": "evaluate",
    "results.predict": "is_doubtful predict predict_image",
    "show.summary": "layer_table",
    "training.fit": "fit",
    "training.start": "find_start",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
