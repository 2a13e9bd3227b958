"""What is said of a training: in run.json when it begins, and beside the weights that it keeps."""

import platform
from datetime import UTC, datetime

import torch

from classificador import processes
from classificador.device import describe_device, precision
from classificador.network.model_info import info_of
from classificador.portuguese import number
from classificador.results.predict import fit_doubt, fit_temperature
from classificador.training.record import git_commit, versions
from classificador.training.trainer import Trainer


def run_facts(trainer: Trainer) -> dict:
    """What run.json says of a run that begins: of what it is made, where, when and by which versions it trains."""
    classes, train, val, _, check_sum = trainer.data_fingerprint
    return {
        "device": describe_device(trainer.device),
        "processes": processes.world_size(),
        "data": {"classes": classes, "train": train, "val": val, "crc32": check_sum},
        "settings": trained_with(trainer),
        "versions": versions(),
        "git_commit": git_commit(),
        "started": _now(),
    }


def model_facts(trainer: Trainer, logits: torch.Tensor) -> dict:
    """What a file says of weights beside what the model knows itself: how good they are, when and how they were made.

    logits: what the network answers to the validation images, N×classes, to which a temperature is fitted.
    """
    history, data, info = trainer.history, trainer.data, info_of(trainer.model)
    temperature = fit_temperature(logits, data.val.labels)
    train, val = (number(len(split.labels), 0) for split in (data.train, data.val))
    return {
        "preset": trainer.settings.preset,
        "settings": trained_with(trainer),
        "start": info.start,
        "earlier_epochs": history.earlier_epochs,
        "classes": list(data.classes),
        "framing": data.framing,
        "epoch": len(history.val_loss),
        "val_accuracy": history.val_accuracy[-1],
        "val_loss": history.val_loss[-1],
        "seconds": history.seconds[-1],
        "created": _now(),
        "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
        "precision": precision(trainer.device),
        "teacher": trainer.batches.teacher.identity if trainer.batches.teacher else {},
        "split": f"{train} imagens de treino, {val} de validação",
        "temperature": temperature,
        "doubt_below": fit_doubt((logits / temperature).softmax(1)),
    }


def trained_with(trainer: Trainer) -> dict:
    """The settings, read from the things that train wherever they know: whatever a settings cell says by now."""
    info, group, settings = info_of(trainer.model), trainer.optimizer.param_groups[0], trainer.settings
    read = {name: info.architecture[name] for name in ("symmetric", *settings.sizes) if name in info.architecture}
    read |= {"optimizer": type(trainer.optimizer).__name__, "lr": group["initial_lr"]}
    read |= {name: group[name] for name in ("weight_decay", "betas") if name in group}
    read |= {"loss": type(trainer.criterion).__name__, "network_seed": info.seed, "start_from": info.start or "zero"}
    read |= {name: value for name, value in vars(trainer.criterion).items() if name == "label_smoothing"}
    return settings.to_dict() | {name: list(v) if isinstance(v, tuple) else v for name, v in read.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
