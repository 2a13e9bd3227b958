"""Multinomial logistic regressions on a network's answers to few pictures and altered copies, and what folds say."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Answers = dict[str, torch.Tensor]  # of a network to N pictures, by the name of the layer: N×numbers

STRENGTH = 100.0  # of logistic regression: the inverse of its shrinkage, for answers of mean square 1
TEMPERATURES = torch.logspace(-0.5, 1.8, 47)
MIXTURES = {  # of what fc1 reads in all regions, of its mean over them, and what the trained fc1 answers
    "regions": {"regions": 1.0},
    "mean": {"mean": 1.0},
    "trained": {"trained": 1.0},
    "all": {"regions": 1 / 3, "mean": 1 / 3, "trained": 1 / 3},
}


@dataclass
class Regression:
    """One that was fitted to all pictures: scores are answers times `weights`, plus `bias`.

    held_out: the scores of each picture by the same regression fitted without its fold, N×classes. temperature: at
    which those say the labels best; loss: their cross entropy then.
    """

    path: str
    weights: Answers  # numbers×classes
    bias: torch.Tensor
    held_out: torch.Tensor
    temperature: float
    loss: float


@dataclass
class Scaled:
    """One kind of answer to many pictures, centred and scaled: its rows have the mean square 1."""

    rows: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, found: torch.Tensor, each: bool) -> "Scaled":
        """each: scale each of the answers by its own deviation, too."""
        mean = found.mean(0)
        rows = found - mean
        deviation = rows.std(0)
        scale = deviation.clamp(min=0.01 * float(deviation.max())) if each else torch.ones_like(deviation)
        rows = rows / scale
        size = rows.square().sum(1).mean().sqrt()
        return cls(rows / size, mean, scale * size)

    def apply(self, found: torch.Tensor) -> torch.Tensor:
        """Other pictures' answers, scaled alike."""
        return (found - self.mean) / self.scale


def fit_regressions(
    path: str, found: Answers, seen: Answers, labels: torch.Tensor, folds: torch.Tensor
) -> Iterator[Regression]:
    """Yield a regression for each of the MIXTURES of a network's answers, on all pictures and their copies.

    found: the answers to the pictures and the copies, all pictures in turn; seen: to the pictures as the network will
    see them. folds: in which each picture is held out, with all its copies.
    """
    blocks = {name: Scaled.of(one, each=name != "regions") for name, one in found.items()}
    products = {name: block.rows @ block.rows.T for name, block in blocks.items()}
    tested = {name: block.apply(seen[name]) @ block.rows.T for name, block in blocks.items()}
    times = len(next(iter(products.values()))) // len(labels)
    masks = [*(folds != fold for fold in range(int(folds.max()) + 1)), torch.ones_like(folds) > 0]
    weight = torch.stack(masks, 1).float() / labels.bincount()[labels][:, None]  # classes weigh alike
    originals = (weight > 0).sum(0)
    for mixture in MIXTURES.values():
        if not mixture.keys() <= blocks.keys():
            continue
        gram, own = (
            torch.stack([share * each[name] for name, share in mixture.items()]).sum(0) for each in (products, tested)
        )
        fits = regress(gram, labels.repeat(times), weight.repeat(times, 1), originals)
        scores = (own @ fits[:-1].flatten(1)).unflatten(1, fits.shape[1:]) + fits[-1]
        held_out = scores[torch.arange(len(labels)), folds]
        temperature, loss = temper(held_out, labels)
        weights, bias = _unscaled(blocks, mixture, fits[:, -1])
        yield Regression(path, weights, bias, held_out, temperature, loss)


def _unscaled(blocks: dict[str, Scaled], mixture: dict[str, float], fit: torch.Tensor) -> tuple[Answers, torch.Tensor]:
    """The weights of the answers as the network gives them, and the bias, of a fit (N+1×classes) to scaled ones."""
    weights, bias = {}, fit[-1]
    for name, share in mixture.items():
        block = blocks[name]
        weights[name] = share * (block.rows.T @ fit[:-1]) / block.scale[:, None]
        bias = bias - block.mean @ weights[name]
    return weights, bias


def regress(gram: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, originals: torch.Tensor) -> torch.Tensor:
    """Fit multinomial logistic regressions side by side, one for each mask; return N+1×J×classes in all.

    gram: the inner products of the N rows. masks: N×J, the weight of each row in each fit. originals: how many pictures
    each fit learns from. The score of a picture is its inner products with the rows times the first N, and the last.
    Solved in the eigenvectors' coordinates, scaled so that the loss is nearly round: L-BFGS then takes a few steps.
    """
    count, classes = len(labels), int(labels.max()) + 1
    values, vectors = torch.linalg.eigh(gram)
    keep = values > 1e-6 * values[-1]
    values, vectors = values[keep], vectors[:, keep]
    masks, shrinkage = masks / masks.sum(0), 1 / (STRENGTH * originals)
    scale = (0.1 * values / count + shrinkage.mean()).rsqrt()
    inputs = vectors * (values.sqrt() * scale)
    weights = torch.zeros(len(values), masks.shape[1], classes, requires_grad=True)
    bias = torch.zeros(masks.shape[1], classes, requires_grad=True)
    fits = torch.optim.LBFGS(
        [weights, bias], max_iter=60, history_size=10, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )
    targets = labels[:, None].expand(-1, masks.shape[1])

    def loss() -> torch.Tensor:
        """The sum of all the fits' losses."""
        fits.zero_grad()
        scores = (inputs @ weights.flatten(1)).unflatten(1, (-1, classes)) + bias
        errors = F.cross_entropy(scores.movedim(2, 1), targets, reduction="none")
        sizes = (weights * scale[:, None, None]).square().sum((0, 2))
        total = (errors * masks).sum() + (sizes * shrinkage).sum() / 2
        total.backward()
        return total

    with torch.enable_grad():
        fits.step(loss)
    rows = vectors @ (weights.detach() * (scale / values.sqrt())[:, None, None]).flatten(1)
    return torch.cat([rows.unflatten(1, (-1, classes)), bias.detach()[None]])


def temper(scores: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The temperature at which the scores say the labels best, and their cross entropy then."""
    losses = torch.stack([F.cross_entropy(scores / one, labels) for one in TEMPERATURES])
    best = int(losses.argmin())
    return float(TEMPERATURES[best]), float(losses[best])
