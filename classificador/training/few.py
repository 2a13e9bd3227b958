"""How a network learns from few pictures: its last layers are computed, not trained by steps.

What fc1 reads of each picture, and what the trained fc1 answers, is computed once for the pictures and some altered
copies. On that, multinomial logistic regressions are fitted: with copies altered in each of four ways (PATHS), reading
each of four mixtures of the answers. Cross-validation over the pictures, copies of one picture on one side, says how
good each is. Their mean, weighted by that, is again linear in the answers, and so the network holds it: fc1 has, beside
the trained units, two units for each class, one for the score where it is positive, one where it is negative. No
picture is held out of the final fit. Where the folds say that colour does not matter, conv2 learns a little, too.
benchmarks/few.py compares it with what else one could do.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from classificador import processes
from classificador.data.dataset import ImageData, Split
from classificador.device import to_device
from classificador.errors import SettingsError, printable
from classificador.network.cnn import unwrap
from classificador.network.model_info import info_of
from classificador.portuguese import first_few, percent, tell
from classificador.results.predict import predict_logits
from classificador.training.copies import KINDS, altered
from classificador.training.few_network import (
    EPOCHS,
    answers,
    by_region,
    first_pooled,
    head,
    own_units,
    put,
    spread,
    tune,
)
from classificador.training.regression import MIXTURES, Regression, fit_regressions
from classificador.training.trainer import Trainer

FOLDS = 5
ROWS = 1200  # pictures and copies of one kind, about
COPIES = 20  # of a picture and of one kind, at most
SHARPNESS = 0.02  # nats by which a regression is worse in the folds when its weight is less by a factor e
COLOURLESS = ("mixed", "coloured")  # the paths whose copies say that colour does not matter
PATHS = {"moved": ("moved",), "turned": ("turned",), "mixed": ("moved", "coloured"), "coloured": ("coloured",)}
PARTS = len(PATHS) * len(MIXTURES) + EPOCHS  # of the work, at most
DOUBTFUL = 0.9  # the probability of another class, in the folds, from which on a label is probably wrong


def suits(model: nn.Module, data: ImageData) -> bool:
    """Whether a network can learn so: from few pictures, with convolutions of another training, computed as in CNN.

    Raises SettingsError for one that has learnt so before, from a file: of those pictures it would tell too much.
    """
    network: Any = unwrap(model)
    if not (data.few and info_of(model).start):
        return False
    if "before_few" in vars(network):
        return True
    if info_of(model).known:
        problem = "Esta rede já aprendeu de poucas imagens, e a validação cruzada não diria mais a verdade."
        raise SettingsError(problem, "Crie-a de novo: execute a célula que a cria, ou build(…).")
    mode = model.training
    try:
        images = data.train.images[:2].to(network.conv2.weight.device)
        with torch.no_grad():
            logits = network.eval()(images)
            mine = head(network, by_region(network, first_pooled(network, images / 255)).flatten(1))
        own, is_copied = own_units(network), not network.conv2.weight.requires_grad
        is_plain = isinstance(network.norm3, nn.BatchNorm1d) and network.norm3.affine and network.fc1.bias is None
        return is_copied and is_plain and own >= 0 and torch.allclose(logits, mine, rtol=1e-3, atol=1e-3)
    except Exception:  # whatever an edited class lacks or does
        return False
    finally:
        model.train(mode)


def train(trainer: Trainer, stop_signal: Callable[[], int]) -> None:
    """Let a network that suits() learn so, as one epoch of its training, validated by cross-validation.

    stop_signal: as for Trainer.train(); the network is then left as it was. A second time it begins as at the first.
    """
    pictures, model, settings = trainer.data.train + trainer.data.val, trainer.model, trainer.settings
    network, is_stopped = unwrap(model).cpu().eval(), list[int]()
    was = copy.deepcopy(network.state_dict())
    network.load_state_dict(vars(network).setdefault("before_few", was))

    def is_over() -> bool:
        trainer.bar.update()
        trainer.clock.tick()
        is_stopped[:] = [number] if (number := processes.all_reduce_max(stop_signal())) else []
        return bool(is_stopped)

    with torch.no_grad():
        held_out = learn(network, pictures, settings.symmetric, settings.seed, is_over)
        if held_out is None:
            network.load_state_dict(was)
            trainer.history.interrupted = is_stopped[0]
            to_device(model, trainer.device)
            return
        logits, labels = predict_logits(model, pictures.images).cpu(), pictures.labels
        loss, val_loss = (trainer.criterion(scores, labels).item() for scores in (logits, held_out))
        accuracy, val_accuracy = ((scores.argmax(1) == labels).double().mean().item() for scores in (logits, held_out))
    trainer.history.add(loss, accuracy, val_loss, val_accuracy, trainer.clock.seconds)
    trainer.batches.done, trainer.judged = trainer.batches.steps_per_epoch, pictures
    trainer.bar.update(trainer.bar.total - trainer.bar.n)
    trainer.on_epoch(held_out, trainer.history)
    to_device(model, trainer.device)
    _tell_doubtful_labels(held_out.softmax(1), pictures, trainer.data.classes)


def learn(
    network: Any, pictures: Split, symmetric: bool, seed: int, is_over: Callable[[], bool] = lambda: False
) -> torch.Tensor | None:
    """Let a network like CNN, on the CPU, learn from all these pictures; return what those say that did not see them.

    That is N×classes: the scores of each picture by the regressions that were fitted without its fold. is_over: asked
    after each part of the work, whether to stop: then None is returned, and the network is good for nothing.
    """
    generator, labels = torch.Generator().manual_seed(seed), pictures.labels
    images = pictures.images.float() / 255
    copies = min(max(ROWS // len(labels), 1), COPIES)
    every = {kind: altered(images, kind, copies, symmetric, generator) for kind in KINDS}
    original = seen = answers(network, images)
    found = {kind: answers(network, some) for kind, some in every.items()}
    if symmetric:
        seen = {name: (original[name] + one) / 2 for name, one in answers(network, images.flip(3)).items()}
    folds = folds_of(pictures, seed)
    regressions: list[Regression] = []
    for path, kinds in PATHS.items():
        each = _each(path, len(images), copies)
        parts = [{name: one[:each] for name, one in found[kind].items()} for kind in kinds]
        joined = {name: torch.cat([part[name] for part in (original, *parts)]) for name in original}
        for one in fit_regressions(path, joined, seen, labels, folds):
            regressions.append(one)
            if is_over():
                return None
    shares = ((min(r.loss for r in regressions) - torch.tensor([r.loss for r in regressions])) / SHARPNESS).softmax(0)
    terms = list(zip(shares.tolist(), regressions, strict=True))
    put(network, terms)
    weight = {path: sum(share for share, one in terms if one.path == path) for path in PATHS}
    if sum(weight[path] for path in COLOURLESS) > 0.5:
        path = max(COLOURLESS, key=lambda path: weight[path])
        chosen = [every[kind][: _each(path, len(images), copies)] for kind in PATHS[path]]
        before = spread(network, original)
        if not tune(network, torch.cat([images, *chosen]), labels, generator, is_over):
            return None
        scale = before / spread(network, answers(network, images))  # as sure as the folds say: smoothed labels are not
        network.fc2.weight.mul_(scale)
        network.fc2.bias.mul_(scale)
    return torch.stack([share * one.held_out / one.temperature for share, one in terms]).sum(0)


def folds_of(pictures: Split, seed: int) -> torch.Tensor:
    """Return in which of up to five folds each picture is held out, int64 N: classes are spread, groups stay together.

    The pictures of a class that are all one group count singly: else none of it would be left to learn from.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # here: takes a second to load

    labels, groups = pictures.labels, torch.arange(len(pictures))
    if pictures.origins:
        groups = torch.tensor([origin.group for origin in pictures.origins])
        for label in labels.unique():
            own = labels == label
            if len(groups[own].unique()) == 1:
                groups[own] = int(groups.max()) + 1 + torch.arange(int(own.sum()))
    count = min(FOLDS, int(labels.bincount().max()), len(groups.unique()))
    folds = torch.zeros_like(labels)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of classes with fewer pictures than folds
        for fold, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            folds[torch.from_numpy(rows)] = fold
    return folds


def _each(path: str, count: int, copies: int) -> int:
    """How many copies of one kind the regressions of a path learn from, of so many pictures."""
    return max(1, copies // len(PATHS[path])) * count


def _tell_doubtful_labels(probabilities: torch.Tensor, pictures: Split, classes: tuple[str, ...]) -> None:
    """Name the pictures that those who did not see them take for another class, and are sure of it."""
    best, found = probabilities.max(1)
    rows = ((best >= DOUBTFUL) & (found != pictures.labels)).nonzero().flatten()
    shown = [
        f"{pictures.origins[row].file} ({classes[int(found[row])]}, {percent(float(best[row]), 0)})"
        for row in rows[best[rows].argsort(descending=True)].tolist()
        if pictures.origins
    ]
    if shown:
        tell(printable(f"Talvez na pasta errada, ou difíceis ({len(shown)}): {first_few(shown, 5)}."))
