"""The file from which an interrupted run goes on, beside the best weights: `best_model.retomar.pth`."""

import math
import os
import time
from pathlib import Path

import torch

from classificador import distributed
from classificador.assemble import make_network
from classificador.atomic import free_name, remove_unfinished
from classificador.brazilian import reason
from classificador.checkpoint import RESUME, read_file, write_file
from classificador.errors import CheckpointError, ClassificadorError, SettingsError, brief
from classificador.history import History
from classificador.model import CNN
from classificador.model_file import check_fit, copy_weights
from classificador.settings import Settings

REMEDY = "Para treinar do começo, não peça para retomar (RETOMAR = False; no terminal, sem --retomar)"


def resume_path(checkpoint: str | Path) -> Path:
    """Where the state of the run that writes `checkpoint` is kept."""
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}.retomar{path.suffix}")


def read_resume(checkpoint: str | Path) -> tuple[dict, Settings]:
    """Return the state of the interrupted run that writes `checkpoint`, and its settings. Raises CheckpointError."""
    path = resume_path(checkpoint)
    if not path.exists():
        raise CheckpointError(f"Não há treino interrompido para retomar ({path} não existe). {REMEDY}.")
    state = read_file(path, RESUME, REMEDY)
    try:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in state["settings"].items()}
        return state, Settings(**values)
    except Exception as error:
        raise CheckpointError(f"{path} não serve para retomar ({brief(error)}). {REMEDY}.") from error


def is_of_this_job(checkpoint: str | Path, restarted: bool) -> bool:
    """Whether there is an interrupted run that torchrun, which starts all processes anew, wants to go on with.

    The job's name tells, also where a machine joined or left; only a job without one has to trust `restarted`.
    """
    if not (distributed.job() or restarted) or not resume_path(checkpoint).exists():
        return False
    return not distributed.job() or read_resume(checkpoint)[0].get("job") == distributed.job()


def resumed_settings(checkpoint: str | Path) -> Settings:
    """Return the settings of the interrupted run, for the command line, which trains the package's own network.

    Raises CheckpointError, before any memory is asked for, when the state is of another network.
    """
    state, settings = read_resume(checkpoint)
    try:
        with torch.device("meta"):
            classes, _, _, side, _ = state["setup"]["dados"]
            sizes = settings.sizes | {"classes": len(classes), "side": side}
            check_fit(make_network(CNN, settings.symmetric, **sizes), state["model"])
    except Exception as error:
        text = f"{resume_path(checkpoint)} é de outra rede ({brief(error)}). Retome no caderno que a define"
        raise CheckpointError(f"{text}. {REMEDY}.") from error
    return settings


def prepare_resume(checkpoint: str | Path, resume: bool) -> None:
    """Clear the place of the resume file, under the lock of `checkpoint`; another run's is set aside unless resumed."""
    path = resume_path(checkpoint)
    remove_unfinished(path)
    if path.exists() and not resume:
        aside = free_name(path, "anterior")
        try:
            os.replace(path, aside)
        except OSError as error:
            raise CheckpointError(f"Não foi possível guardar {path} em {aside}: {reason(error)}.") from error
        print(
            f"Havia um treino interrompido; este começa do zero, e aquele foi guardado em {aside} "
            f"(para retomá-lo, devolva-lhe o nome {path.name})."
        )


def save_state(run, sums: torch.Tensor, path: Path, job: str) -> None:
    """Write everything the rest of the run depends on, as tensors and plain values. Raises CheckpointError.

    sums: the loss and the right answers of the epoch under way. job: that goes on by itself if it is restarted.
    """
    state = {
        "settings": run.settings.to_dict(),
        "setup": _setup(run),
        "epoch": run.epoch,
        "step": run.step,
        "order": run.order.cpu(),
        "sums": sums.cpu(),
        "model": copy_weights(run.model),
        "optimizer": _contiguous(run.optimizer.state_dict()),
        "generators": [run.generator.get_state(), torch.get_rng_state(), *_device_random_state(run.device)],
        "history": run.history.to_dict(),
        "seconds": time.perf_counter() - run.started,
        "best": run.best.state(),
        "folder": run.record.name,
        "job": job,
    }
    write_file(path, RESUME, state)


def restore_state(run, checkpoint: str | Path) -> None:
    """Put the saved state of the run that writes `checkpoint` into `run`, a run that has not begun.

    Raises SettingsError naming the first setting that is not what it was, and CheckpointError for a state that is not
    ours or belongs to other data, another network, optimizer or loss.
    """
    setup, first = _setup(run), distributed.rank() == 0
    state, before = distributed.from_first(lambda: read_resume(checkpoint))  # other machines may not have the file
    for name, value in before.to_dict().items():
        if value != (now := run.settings.to_dict()[name]):
            raise SettingsError(f"{now} aqui, {value} no treino interrompido; use o mesmo valor. {REMEDY}.", name)
    try:
        check_fit(run.model, state["model"])
        for name, now in setup.items():
            if state["setup"][name] != now:
                raise ValueError(f"mudou: {name}")
        order, position = state["order"], (state["epoch"], state["step"])
        in_order = order.dtype == torch.int64 and torch.equal(order.sort().values, torch.arange(len(run.train_split)))
        whole = all(type(number) is int for number in position) and state["sums"].shape == (2,)
        if not (whole and in_order and 0 <= position[0] < run.settings.epochs and 0 <= position[1] < run.steps):
            raise ValueError("posição impossível")
        history, seconds = _history(state["history"], epochs=position[0]), float(state["seconds"])
        if not math.isfinite(seconds):
            raise ValueError("tempo impossível")
        run.optimizer.load_state_dict(state["optimizer"])
        if _setup(run)["otimizador"] != setup["otimizador"]:
            raise ValueError("mudou: otimizador")
        _reorder(run.optimizer)
        run.model.load_state_dict(state["model"])
        run.schedule.last_epoch = done = position[0] * run.steps + position[1]
        for group, base, factor in zip(
            run.optimizer.param_groups, run.schedule.base_lrs, run.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(done)
        (run.epoch, run.step), run.order = position, order.to(run.device)
        run.loss_sum, run.correct = (state["sums"] * first).to(run.device).unbind()
        run.generator.set_state(state["generators"][0])
        if first:
            torch.set_rng_state(state["generators"][1])
            _set_device_random_state(run.device, state["generators"][2:])
            run.best.restore(state["best"])
    except ClassificadorError:
        raise
    except Exception as error:  # whatever is wrong with a state, it is refused
        text = f"{resume_path(checkpoint)} não serve para retomar este treino ({brief(error)}). {REMEDY}."
        raise CheckpointError(text) from error
    run.history, run.started = history, time.perf_counter() - seconds
    run.folder = str(state.get("folder", ""))


def _setup(run) -> dict:
    """What must be as it was, besides the settings, under the names a reader finds in the message."""
    groups = [
        {name: _plain(value) for name, value in group.items() if name not in ("params", "lr")}
        for group in run.optimizer.param_groups
    ]
    teacher = {"professor": run.teacher.facts} if run.teacher else {}
    return {
        "dados": [
            run.classes,
            len(run.train_split),
            len(run.val_split),
            run.train_split.images.shape[-1],
            run.fingerprint,
        ],
        "rede": [name for name, _ in run.model.named_parameters()],  # the optimizer knows them by their order
        "otimizador": [type(run.optimizer).__name__, groups],
        "critério": [type(run.criterion).__name__, _options(run.criterion)],
        "dispositivo": run.device.type,
        **teacher,
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _options(criterion: object) -> dict:
    """The plain attributes of a loss, such as label_smoothing; its repr does not show them."""
    return {name: value for name, value in vars(criterion).items() if isinstance(value, int | float | str)}


def _device_random_state(device: torch.device) -> list[torch.Tensor]:
    """The state of the generator from which dropout draws on this device; on a CPU it is the global one."""
    if device.type == "cuda":
        return [torch.cuda.get_rng_state(device)]
    return [torch.mps.get_rng_state()] if device.type == "mps" else []


def _set_device_random_state(device: torch.device, states: list[torch.Tensor]) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[0], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[0])


def _contiguous(optimizer: dict) -> dict:
    """The state of an optimizer with its tensors in the memory order in which files hold them."""
    state = {
        key: {name: v.contiguous() if isinstance(v, torch.Tensor) else v for name, v in values.items()}
        for key, values in optimizer["state"].items()
    }
    return optimizer | {"state": state}


def _reorder(optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer's averages the memory order of their weights, which fused Adam takes for granted.

    Raises ValueError for averages of another shape, which torch loads and fused Adam reads beyond their end.
    """
    for weight, averages in optimizer.state.items():
        if isinstance(optimizer, torch.optim.Adam) and set(averages) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"otimizador: {sorted(map(str, averages))}")
        for name, value in averages.items():
            shape = [] if name == "step" else list(weight.shape)
            if list(value.shape) != shape or not value.is_floating_point():
                raise ValueError(f"{name}: {list(value.shape)} de {value.dtype} em vez de {shape}")
            if shape:
                averages[name] = torch.empty_like(weight).copy_(value)


def _history(values: dict, epochs: int) -> History:
    """The history of a run of so many complete epochs. Raises ValueError if it cannot be."""
    history = History(**values | {"interrupted": 0})
    points = [history.train_loss, history.train_accuracy, history.val_loss, history.val_accuracy, history.seconds]
    numbers = [value for series in [*points, *history.steps] for value in series]
    if any(len(series) != epochs for series in points) or any(len(point) != 3 for point in history.steps):
        raise ValueError("história incompleta")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
        raise ValueError("história impossível")
    return history
