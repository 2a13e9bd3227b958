"""What a training starts from: new weights, or those of a network that has learnt other classes already."""

from pathlib import Path

from classificador.constants import CLASSES
from classificador.errors import CheckpointError
from classificador.files.model_file import load_model, read_checkpoint
from classificador.files.model_info import LoadedModel
from classificador.network.cnn import CNN, OriginalCNN
from classificador.portuguese import percent

SHIPPED = Path("best_model.pth")  # which knows CIFAR-10, until a training on other classes takes its place


def find_start(start_from: str, classes: tuple[str, ...]) -> LoadedModel | None:
    """Return the trained network with whose weights a training on `classes` begins, for build(); None for new ones.

    start_from: the file of a model; "zero" for none; or "auto": for other classes than CIFAR-10's, best_model.pth, or
    what it held before, kept in runs/, if it knows CIFAR-10. Says in one line which network it is.
    Raises CheckpointError for a file that cannot be used.
    """
    if start_from == "zero" or (start_from == "auto" and classes == CLASSES):
        return None
    if start_from != "auto":
        path, model = Path(start_from), load_model(start_from)
        if isinstance(model, OriginalCNN):
            raise CheckpointError(f"{path} tem os pesos da rede original, de que a deste projeto não pode partir.")
    else:
        kept = sorted(Path("runs").glob(f"*/{SHIPPED}"), reverse=True)
        found = next(filter(None, map(_of_cifar10, [SHIPPED, *kept])), None)
        if found is None:
            print("Não há best_model.pth do CIFAR-10 de que partir; os pesos começam ao acaso.")
            return None
        path, model = found
    info = model.info
    made = f"{info.preset}, {info.created[:10]}" if info.preset else "só pesos"
    score = f", {percent(info.val_accuracy)} na validação" if info.preset else ""
    vars(model)["start"] = f"{path.name[:100]} ({made})"
    print(
        f"Os pesos partem de {path}: {info.preset or made}, {len(info.classes)} classes{score}. "
        '(Do zero: START_FROM = "zero"; no terminal, --partir-de zero.)'
    )
    return model


def _of_cifar10(path: Path) -> tuple[Path, LoadedModel] | None:
    """The model in this file, if it is one of CIFAR-10's classes."""
    try:
        saved = read_checkpoint(path)
        return (path, load_model(path)) if saved.network is CNN and saved.info.classes == CLASSES else None
    except CheckpointError:
        return None
