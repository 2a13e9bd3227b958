"""How many of the package's modules a reader of fit() has to know: `python -m benchmarks.modules`.

Counts the modules whose functions a training enters, in one process: an epoch of `rapido` on 512 images, from the call
of fit() to its return. The front door, classificador/__init__.py, is left out. Prints their number and their names.
"""

import inspect
import sys
import tempfile
from pathlib import Path
from types import FrameType

from torch import nn

from benchmarks import machine
from classificador import ImageData, build, fit, load_cifar10, make_optimizer, make_settings
from classificador.data.dataset import Split

TRAIN, VAL = 512, 200  # images


def main() -> None:
    """Train on a slice of CIFAR-10 and print what was counted."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        is_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED  # and not the body of a module or a class
        if event == "call" and is_function and frame.f_globals.get("__name__", "").startswith("classificador."):
            names.add(frame.f_globals["__name__"])

    whole, settings = load_cifar10(machine.ROOT / "data"), make_settings(epochs=1, device="cpu")
    train, val = (Split(s.images[:n], s.labels[:n]) for s, n in ((whole.train, TRAIN), (whole.val, VAL)))
    data = ImageData(train, val, whole.test)
    model = build(settings, data)
    optimizer = make_optimizer(model, settings)
    with tempfile.TemporaryDirectory() as folder:
        sys.setprofile(note)
        fit(model, data, nn.CrossEntropyLoss(), optimizer, settings, Path(folder, "best_model.pth"))
        sys.setprofile(None)
    print(f"fit() entra em funções de {len(names)} módulos do pacote:", *sorted(names), sep="\n  ")


if __name__ == "__main__":
    main()
