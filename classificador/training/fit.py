"""fit(): a whole training, from the checks before it to the files it leaves."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from tqdm import tqdm

from classificador import processes
from classificador.data.dataset import ImageData
from classificador.device import choose_device, keep_freed_memory
from classificador.errors import DivergenceError, SettingsError
from classificador.files.model_file import check_saveable, identify
from classificador.gpu import explain_out_of_memory
from classificador.network.build import build, make_optimizer
from classificador.network.model_info import info_of, set_info
from classificador.portuguese import number, percent, tell
from classificador.recipes import FEW, PRESETS, Settings
from classificador.results.predict import predict_logits
from classificador.training import few
from classificador.training.batches import Batches, balanced_rows
from classificador.training.estimate import foretell
from classificador.training.history import History
from classificador.training.record import VALIDATED, Record, model_facts, recording
from classificador.training.resume import check_device, check_fingerprint, check_settings, read_resume_point, unusable
from classificador.training.run_folder import RunFolder, Runs
from classificador.training.start import find_start, load_teacher
from classificador.training.trainer import Trainer, stop_requests


def train(
    settings: Settings,
    data: ImageData,
    checkpoint: str | Path = "best_model.pth",
    model: nn.Module | None = None,
    resume: bool = False,
) -> tuple[nn.Module, History]:
    """Train as the settings say, and return the network, with its last weights, and the history; the rest as in fit().

    model: trained in place; None: the package's own network, with the starting weights that the settings ask for.
    """
    if model is None:
        pretrained = processes.on_rank_0(lambda: find_start(settings.start_from, data.classes, checkpoint))
        model = build(settings, data, pretrained=pretrained)
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    return model, fit(model, data, criterion, make_optimizer(model, settings), settings, checkpoint, resume=resume)


def fit(
    model: nn.Module,
    data: ImageData,
    criterion: nn.Module,
    optimizer: Optimizer,
    settings: Settings,
    checkpoint: str | Path = "best_model.pth",
    watch: Callable[[History], None] | None = None,
    resume: bool = False,
) -> History:
    """Train `model` in place on `data.train`; keep its best weights by validation accuracy in the file `checkpoint`.

    All that the run writes is in its folder in runs/, beside `checkpoint`, which is a copy of the best weights there.
    An interrupt (Ctrl-C, the notebook's stop button, SIGTERM) ends the run within a few batches and returns the
    history of the complete epochs. With resume=True a later call goes on from there, or, when the process was killed,
    from at most a minute before; on a CPU with the result of an uninterrupted run, bit for bit. From few pictures
    it learns otherwise, where it can: see few.py. watch: called with the history at times, to draw it.
    Raises SettingsError (a batch too large, a device missing, another network, settings other than those resumed),
    WriteError (file not written, or in use), CheckpointError (not to be saved, nothing to resume) and DivergenceError.
    """
    _check(model, data, optimizer, settings)
    learn, settings = _choose_how(model, data, settings)
    runs = Runs(checkpoint)
    files = RunFolder(runs) if processes.rank() == 0 else nullcontext()
    batch = settings.batch_size if settings.preset != FEW else 0
    with stop_requests() as stop_signal, files as folder, explain_out_of_memory(batch):
        trainer = Trainer(model, _make_batches(data, settings), criterion, optimizer)
        _start_or_resume(trainer, runs, folder, resume)
        foretell(trainer, stop_signal)
        record = Record(folder.path, trainer, folder.checkpoint.name) if folder else None
        with recording(trainer, record):
            if watch:
                watch(trainer.history)  # before the bar: in a notebook the curves then stand above it
            with _attach_callbacks(trainer, record, watch) as bar:
                learn(trainer, stop_signal)
        if folder and not trainer.history.interrupted:
            folder.remove_resume_point()  # after run.json, in which a job started anew looks for "finished"
        elif folder:
            bar.write(f"Interrompido; {folder.kept()}.")
    return trainer.history


def _choose_how(
    model: nn.Module, data: ImageData, settings: Settings
) -> tuple[Callable[[Trainer, Callable[[], int]], None], Settings]:
    """Return what trains, in epochs or from few pictures, and the settings of that; of a small part it says so."""
    count = number(len(data.train) + len(data.val), 0)
    if few.suits(model, data):
        how = "de uma vez, por regressão logística (épocas, lotes e lr não contam), e responde-se por validação cruzada"
        tell(f"{count} imagens são poucas para separar algumas: aprende-se de todas, {how}.")
        return few.train, replace(settings, preset=FEW, epochs=1, teacher="")
    if data.few:
        tell(f"Das {count} imagens, {len(data.train)} são de treino, em épocas, e as outras escolhem a época.")
    return Trainer.train, settings


def _check(model: nn.Module, data: ImageData, optimizer: Optimizer, settings: Settings) -> None:
    """Raise the errors that need no training to be seen."""
    if settings.batch_size > (shown := len(balanced_rows(data.train.labels))):
        problem = f"{settings.batch_size} é maior que as {shown} imagens de uma época; use um menor, como {shown // 8}."
        raise SettingsError(problem, field="batch_size")
    if settings.batch_size < processes.world_size():
        problem = f"precisa ser pelo menos {processes.world_size()}, o número de processos."
        raise SettingsError(problem, field="batch_size")
    weights = [value for value in model.state_dict().values() if not is_lazy(value)]
    if not all(torch.isfinite(value).all() for value in weights):
        problem = "A rede começa com pesos não finitos, talvez de um treino que divergiu."
        raise DivergenceError(problem, "Crie-a de novo.")
    identify(model, settings, data)
    with explain_out_of_memory(settings.batch_size):
        _check_outputs(model, data)
        check_saveable(model, {"preset": settings.preset, "classes": list(data.classes)})
    trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if not any(weight.requires_grad and id(weight) in trained for weight in model.parameters()):
        problem = "O otimizador é de outra rede, e esta não aprenderia nada."
        raise SettingsError(problem, "Crie-o de novo, para esta.")


def _check_outputs(model: nn.Module, data: ImageData) -> None:
    """Raise SettingsError for a network that was made for another number of classes or another side of the images."""
    given, side = predict_logits(model, data.train.images[:2]).shape[1], data.side
    if given != len(data.classes):
        problem = f"A rede dá {given} notas, e os dados têm {len(data.classes)} classes."
        raise SettingsError(problem, "Dê à classe da rede o argumento classes.")
    if info_of(model).side != side:
        raise SettingsError(f"As imagens têm lado {side}, que a classe da rede não sabe.", "Dê a ela o argumento side.")


def _make_batches(data: ImageData, settings: Settings) -> Batches:
    """Return the batches, with the images they need on the device. Raises as load_teacher and choose_device."""
    device = choose_device(settings.device)
    teacher = load_teacher(settings.teacher, data, device) if settings.teacher else None
    keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # on NVIDIA: tries which algorithm is quickest for each size of batch
    return Batches(data, settings, device, teacher)


def _start_or_resume(trainer: Trainer, runs: Runs, folder: RunFolder | None, resume: bool) -> None:
    """Bring the training to where it begins: the weights of its network, or the point where it was interrupted.

    Raises SettingsError naming the first setting that is not what it was at that point, and CheckpointError for one
    that is not ours or belongs to other data, another network, optimizer or loss.
    """
    point = processes.on_rank_0(lambda: read_resume_point(runs)) if resume else None
    if point:
        check_settings(point, trainer.settings)
        try:
            check_fingerprint(point, trainer.fingerprint())
            check_device(point, trainer.device)
            trainer.load_state_dict(point.state)
            check_fingerprint(point, trainer.fingerprint())  # the options of the optimizer came with its state
        except Exception as error:  # whatever is wrong with a state, it is refused
            checkpoint = runs.checkpoint if trainer.settings.preset in PRESETS else None  # which START_FROM serves
            raise unusable(point.path, error, checkpoint) from error
    elif info_of(trainer.model).epoch and trainer.settings.preset != FEW:
        epochs = number(trainer.history.earlier_epochs, 1)
        tell(f"Esta rede já treinou {epochs} épocas, e o treino parte dos pesos dela; crie-a de novo para evitar isso.")
    if folder is None:
        return
    trainer.folder = folder
    if point:
        folder.begin(trainer.settings.preset, point.path, point.earlier)
    else:
        if left := runs.interrupted():
            tell(f"Há um treino interrompido em {left.parent}, que fica lá para retomar; este começa do zero.")
        folder.begin(trainer.settings.preset)


def _attach_callbacks(trainer: Trainer, record: Record | None, watch: Callable[[History], None] | None) -> tqdm:
    """Set what the trainer calls: the best weights are saved after an epoch, the record, `watch` and a bar follow it.

    Returns the bar, for a `with` block.
    """
    history, epochs, bar = trainer.history, trainer.settings.epochs, _make_bar(trainer)

    def on_report(history: History) -> None:
        """Show the means so far."""
        means = f"perda {number(trainer.tally.loss, 3)}, acurácia {percent(trainer.tally.accuracy)}"
        bar.set_postfix_str(means, refresh=False)
        if watch:
            watch(history)

    def on_epoch(logits: torch.Tensor, history: History) -> None:
        """Save the weights if they are the best so far; then record and show the epoch."""
        folder = trainer.folder
        if folder and (
            folder.score is None or history.is_at_its_best
        ):  # None: also of a resumed run whose file is gone
            _save(folder, trainer, logits)
        if record:
            record.write()
        if watch:
            watch(history)
        bar.write(_line_of(history, len(history.val_loss) - 1, epochs))
        bar.set_description(_under_way(trainer))

    for epoch in range(len(history.val_loss)):  # of the run that is resumed
        bar.write(_line_of(history, epoch, epochs))
    trainer.on_report, trainer.on_epoch, trainer.bar = on_report, on_epoch, bar
    return bar


def _under_way(trainer: Trainer) -> str:
    """What stands before the bar."""
    epochs = trainer.settings.epochs
    now = f"Época {min(len(trainer.history.val_loss) + 1, epochs)}/{epochs}"
    return "Aprendendo de poucas imagens" if trainer.settings.preset == FEW else now


def _make_bar(trainer: Trainer) -> tqdm:
    """The bar of a training: its batches, or of few pictures the parts of the work."""
    settings, batches = trainer.settings, trainer.batches
    count, unit = settings.epochs * batches.steps_per_epoch, "lote"
    if settings.preset == FEW:
        count, unit = few.PARTS, "parte"
    options = {"unit": unit, "file": sys.stdout, "mininterval": 0.5, "dynamic_ncols": True}
    return tqdm(desc=_under_way(trainer), total=count, initial=batches.done, **options)


def _save(folder: RunFolder, trainer: Trainer, logits: torch.Tensor) -> None:
    """Save the weights, this run's best so far; logits: as for model_facts()."""
    facts = model_facts(trainer, logits)
    folder.save(trainer.model, facts)
    if trainer.data.few:  # else a network that is not opened anew would be evaluated on what it has learnt
        known = {name: facts[name] for name in VALIDATED} | {"classes": trainer.data.classes}
        set_info(trainer.model, replace(info_of(trainer.model), **known))


def _line_of(history: History, epoch: int, epochs: int) -> str:
    """What is said of an epoch that is complete, of so many; epoch: from 0."""
    if not history.steps:  # from few pictures
        learnt, crossed = percent(history.train_accuracy[epoch]), percent(history.val_accuracy[epoch])
        return f"Acurácia nas imagens de que aprendeu: {learnt}; em validação cruzada: {crossed}"
    return (
        f"Época {epoch + 1}/{epochs}: "
        f"perda {number(history.train_loss[epoch], 3)}, validação {number(history.val_loss[epoch], 3)}; "
        f"acurácia {percent(history.train_accuracy[epoch])}, validação {percent(history.val_accuracy[epoch])}"
    )
