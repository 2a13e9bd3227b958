"""Train, evaluate and use a small CIFAR-10 classifier: the package behind `Pytorch.ipynb`.

Names are loaded when first used, so that `import classificador` costs nothing (torch alone takes over a second).
"""

from importlib import import_module

_HOME = {
    "ImageData": "dataset",
    "CLASSES": "dataset",
    "load_cifar10": "dataset",
    "load_data": "folders",
    "CNN": "model",
    "Symmetric": "model",
    "Settings": "settings",
    "make_settings": "settings",
    "PRESETS": "settings",
    "History": "history",
    "build": "assemble",
    "fit": "training",
    "make_network": "assemble",
    "make_optimizer": "assemble",
    "load_model": "model_file",
    "read_checkpoint": "model_file",
    "save_checkpoint": "model_file",
    "describe_checkpoint": "model_info",
    "ModelInfo": "model_info",
    "predict": "inference",
    "is_doubtful": "inference",
    "predict_image": "inference",
    "explain_picture": "own_pictures",
    "upload_box": "own_pictures",
    "evaluate": "metrics",
    "Report": "metrics",
    "layer_table": "summary",
    "ClassificadorError": "errors",
    "CheckpointError": "errors",
    "DataError": "errors",
    "ImageError": "errors",
    "SettingsError": "errors",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted([*globals(), *_HOME])
