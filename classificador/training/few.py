"""How to learn from few pictures: a network of the class CNN whose last layers are computed, not trained by steps.

What fc1 would read of each picture, and what the trained fc1 answers, is computed once for the pictures and some
altered copies. On that, multinomial logistic regressions are fitted: with copies altered in each of four ways
(PATHS), reading each of four mixtures of the answers (MIXTURES). Cross-validation over the pictures, copies of one
picture on one side, says how good each is. Their mean, weighted by that, is again linear in the answers: one network
holds it, whose fc1 has, beside the trained units, two units for each class, one for the score where it is positive,
one where it is negative. No picture is held out of the final fit. Where the folds say that colour does not matter,
conv2 learns a little, too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from classificador.data.dataset import Split
from classificador.network.cnn import CNN, contrast, make_network, max_and_mean, unwrap
from classificador.network.model_info import info_of
from classificador.training.trainer import lr_factor

FOLDS = 5
ROWS = 1200  # pictures and copies of one kind, about
COPIES = (4, 20)  # of a picture and of one kind, at least and at most
STRENGTH = 100.0  # of logistic regression: the inverse of its shrinkage, for answers of mean square 1
SHARPNESS = 0.02  # nats by which a regression is worse in the folds when its weight is less by a factor e
COLOURLESS = ("mixed", "coloured")  # the paths whose copies say that colour does not matter
PATHS = {"moved": ("moved",), "turned": ("turned",), "mixed": ("moved", "coloured"), "coloured": ("coloured",)}
MIXTURES = {  # of what fc1 reads: whole, its mean over the regions, and what the trained fc1 answers
    "regions": {"regions": 1.0},
    "whole": {"whole": 1.0},
    "trained": {"trained": 1.0},
    "all": {"regions": 1 / 3, "whole": 1 / 3, "trained": 1 / 3},
}
TUNED = {
    "lr": 2e-3,
    "epochs": 6,
    "batch": 50,
    "smoothing": 0.1,
}  # conv2, where colour does not matter; the head a third
TEMPERATURES = torch.logspace(-0.5, 1.8, 47)


# ---- altered copies


def uniform(images: torch.Tensor, generator: torch.Generator, channels: int = 1) -> torch.Tensor:
    """Random numbers from -1 to 1, N×channels×1×1."""
    return 2 * torch.rand(len(images), channels, 1, 1, generator=generator) - 1


def lit(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Copies in another light: contrast, brightness, tint."""
    mean = images.mean((1, 2, 3), keepdim=True)
    light = 0.15 * uniform(images, generator) + 0.08 * uniform(images, generator, 3)
    return ((images - mean) * torch.exp(0.25 * uniform(images, generator)) + mean + light).clamp(0, 1)


def moved(images: torch.Tensor, generator: torch.Generator, most: int = 3) -> torch.Tensor:
    """Copies shifted by whole pixels, so that what is fine stays so; the rim is filled by reflection."""
    side = images.shape[-1]
    most = most * side // 32
    padded = F.pad(images, (most,) * 4, mode="reflect")
    places = torch.randint(2 * most + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([one[:, y : y + side, x : x + side] for one, (y, x) in zip(padded, places, strict=True)])


def warped(
    images: torch.Tensor, generator: torch.Generator, degrees: float, scale: float, shift: float
) -> torch.Tensor:
    """Copies turned, scaled and shifted at random; the rim is filled by reflection."""
    turn, size, x, y = (uniform(images, generator).flatten() for _ in range(4))
    turn, size = turn * math.radians(degrees), torch.exp(size * scale)
    cos, sin = size * turn.cos(), size * turn.sin()
    matrices = torch.stack([torch.stack([cos, -sin, x * shift], 1), torch.stack([sin, cos, y * shift], 1)], 1)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recoloured(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Copies with their three colours in another order, and every second one a negative."""
    negative = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    orders = torch.rand(len(images), 3, generator=generator).argsort(1)
    images = torch.where(negative, 1 - images, images)
    return images[torch.arange(len(images))[:, None], orders]


KINDS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "moved": lambda images, generator: lit(moved(images, generator), generator),
    "turned": lambda images, generator: lit(warped(images, generator, 15, 0.35, 0.3), generator),
    "coloured": lambda images, generator: lit(
        recoloured(warped(images, generator, 10, 0.2, 3 / 16), generator), generator
    ),
}


def altered(images: torch.Tensor, kind: str, copies: int, symmetric: bool, generator: torch.Generator) -> torch.Tensor:
    """So many altered copies of each image, all images in turn."""
    images = images.repeat(copies, 1, 1, 1)
    if symmetric:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    return KINDS[kind](images, generator)


# ---- the frozen network's answers


@torch.no_grad()
def answers(network: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What fc1 reads of images in [0, 1] ("regions"), its mean over the regions, and what fc2 reads ("trained")."""
    parts = []
    for some in images.split(200):
        x = F.relu(contrast(F.max_pool2d(network.conv1((some - 0.5) / 0.5), network.pools[0])))
        x = F.relu(network.norm2(max_and_mean(network.conv2(x), network.pools[1])))
        found = {"regions": x.flatten(1), "whole": x.mean((2, 3))}
        if found["regions"].shape[1] == network.fc1.in_features:  # not where the images have another side
            found["trained"] = F.relu(network.norm3(network.fc1(found["regions"])))
        parts.append(found)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


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


# ---- logistic regression


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

    fits.step(loss)
    with torch.no_grad():
        rows = vectors @ (weights * (scale / values.sqrt())[:, None, None]).flatten(1)
        return torch.cat([rows.unflatten(1, (-1, classes)), bias[None]])


def fold_of(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """In which fold each picture is held out: each class is spread over all of them."""
    folds, generator = torch.zeros_like(labels), torch.Generator().manual_seed(seed)
    for label in labels.unique():
        own = (labels == label).nonzero().flatten()
        folds[own[torch.randperm(len(own), generator=generator)]] = torch.arange(len(own)) % FOLDS
    return folds


def temper(scores: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The temperature at which the scores say the labels best, and their cross-entropy then."""
    losses = torch.stack([F.cross_entropy(scores / one, labels) for one in TEMPERATURES])
    best = int(losses.argmin())
    return float(TEMPERATURES[best]), float(losses[best])


@dataclass
class Fit:
    """A regression: which answers it reads how much of, its weights of all rows, and what the folds say."""

    path: str
    mixture: dict[str, float]
    rows: torch.Tensor  # N×classes
    bias: torch.Tensor
    held_out: torch.Tensor  # scores of each picture by the fit that did not see it
    temperature: float
    loss: float


def fit_path(
    path: str, blocks: dict[str, Scaled], seen: dict[str, torch.Tensor], labels: torch.Tensor, seed: int
) -> list[Fit]:
    """The regressions on the answers to pictures and copies; seen: those to the pictures as the network sees them."""
    products = {name: block.rows @ block.rows.T for name, block in blocks.items()}
    tested = {name: block.apply(seen[name]) @ block.rows.T for name, block in blocks.items()}
    times, folds = len(next(iter(products.values()))) // len(labels), fold_of(labels, seed)
    masks = torch.stack([*(folds != fold for fold in range(FOLDS)), torch.ones_like(folds) > 0], 1).float()
    masks = masks / labels.bincount()[labels][:, None]  # classes weigh alike
    originals = (masks > 0).sum(0)
    fits = []
    for mixture in MIXTURES.values():
        if not mixture.keys() <= blocks.keys():
            continue
        gram, own = (
            torch.stack([share * each[name] for name, share in mixture.items()]).sum(0) for each in (products, tested)
        )
        found = regress(gram, labels.repeat(times), masks.repeat(times, 1), originals)
        scores = (own @ found[:-1].flatten(1)).unflatten(1, found.shape[1:]) + found[-1]
        held_out = scores[torch.arange(len(labels)), folds]
        fits.append(Fit(path, mixture, found[:-1, -1], found[-1, -1], held_out, *temper(held_out, labels)))
    return fits


# ---- the network


def learn(train: Split, start: nn.Module, symmetric: bool, seed: int = 0, report: dict | None = None) -> nn.Module:
    """Return a network of the class CNN that has learnt from all these pictures, conv1 and maybe conv2 of `start`.

    report: gets what the folds say: the share of right answers of the mixture, and the weight of each regression.
    """
    network: Any = unwrap(start).eval()
    generator = torch.Generator().manual_seed(seed)
    images, labels = train.images.float() / 255, train.labels
    copies = min(max(ROWS // len(labels), COPIES[0]), COPIES[1])
    pictures = {kind: altered(images, kind, copies, symmetric, generator) for kind in KINDS}
    original = seen = answers(network, images)
    found = {kind: answers(network, some) for kind, some in pictures.items()}
    if symmetric:
        seen = {name: (original[name] + one) / 2 for name, one in answers(network, images.flip(3)).items()}
    paths: dict[str, dict[str, Scaled]] = {}
    fits: list[Fit] = []
    for path, kinds in PATHS.items():
        each = copies // len(kinds) * len(labels)
        parts = [original, *({name: one[:each] for name, one in found[kind].items()} for kind in kinds)]
        paths[path] = {
            name: Scaled.of(torch.cat([part[name] for part in parts]), each=name != "regions") for name in original
        }
        fits += fit_path(path, paths[path], seen, labels, seed)
    losses = torch.tensor([fit.loss for fit in fits])
    shares = ((losses.min() - losses) / SHARPNESS).softmax(0).tolist()
    tempered = [share * fit.held_out / fit.temperature for share, fit in zip(shares, fits, strict=True)]
    held_out = torch.stack(tempered).sum(0)
    temperature = temper(held_out, labels)[0]
    colourless = sum(share for share, fit in zip(shares, fits, strict=True) if fit.path in COLOURLESS)
    if report is not None:
        report["folds"] = (held_out.argmax(1) == labels).double().mean().item()
        report["shares"] = {(fit.path, *fit.mixture): round(share, 2) for share, fit in zip(shares, fits, strict=True)}
        report["colourless"] = colourless
    weights, bias = summed(paths, fits, [share / temperature for share in shares])
    model = assemble(start, weights, bias, symmetric, train.images.shape[-1])
    if colourless > 0.5:
        best = max(COLOURLESS, key=lambda path: sum(s for s, fit in zip(shares, fits, strict=True) if fit.path == path))
        tune(model, with_copies(images, pictures, best), labels, generator)
    return model.eval()


def with_copies(images: torch.Tensor, pictures: dict[str, torch.Tensor], path: str) -> torch.Tensor:
    """The pictures and the copies of them that a path has."""
    kinds = PATHS[path]
    each = len(pictures[kinds[0]]) // len(images) // len(kinds) * len(images)
    return torch.cat([images, *(pictures[kind][:each] for kind in kinds)])


def tune(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> None:
    """Let conv2 learn, too, from the pictures and their copies, and the linear layers with it, a third as fast.

    The normalisations stay as they are. What conv1 answers is computed once.
    """
    network: Any = unwrap(model).eval()
    labels = labels.repeat(len(images) // len(labels))
    with torch.no_grad():
        parts = [F.max_pool2d(network.conv1((some - 0.5) / 0.5), network.pools[0]) for some in images.split(200)]
        inputs = torch.cat([F.relu(contrast(part)) for part in parts]).contiguous(memory_format=torch.channels_last)
    model.requires_grad_(False)
    head = [network.fc1.weight, network.fc2.weight, network.fc2.bias]
    for weight in (network.conv2.weight, *head):
        weight.requires_grad_(True)
    groups = [{"params": [network.conv2.weight], "lr": TUNED["lr"]}, {"params": head, "lr": TUNED["lr"] / 3}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    steps = int(TUNED["epochs"]) * (len(labels) // int(TUNED["batch"]))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps) if step < steps else 0)
    for _ in range(int(TUNED["epochs"])):
        rows = torch.randperm(len(labels), generator=generator)
        for some in rows[: len(rows) // int(TUNED["batch"]) * int(TUNED["batch"])].split(int(TUNED["batch"])):
            x = F.relu(network.norm2(max_and_mean(network.conv2(inputs[some]), network.pools[1])))
            scores = network.fc2(F.relu(network.norm3(network.fc1(x.flatten(1)))))
            loss = F.cross_entropy(scores, labels[some], label_smoothing=TUNED["smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.requires_grad_(True)


def summed(
    paths: dict[str, dict[str, Scaled]], fits: list[Fit], shares: list[float]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The weights of the answers, unscaled, and the bias, of the weighted sum of the regressions."""
    bias = torch.stack([share / fit.temperature * fit.bias for share, fit in zip(shares, fits, strict=True)]).sum(0)
    weights: dict[str, torch.Tensor] = {}
    for path, blocks in paths.items():
        own = [(share / fit.temperature, fit) for share, fit in zip(shares, fits, strict=True) if fit.path == path]
        for name, block in blocks.items():
            rows = sum(share * fit.mixture.get(name, 0.0) * fit.rows for share, fit in own)
            raw = (block.rows.T @ rows) / block.scale[:, None]
            bias = bias - block.mean @ raw
            weights[name] = weights.get(name, 0) + raw
    return weights, bias


@torch.no_grad()
def assemble(
    start: nn.Module, weights: dict[str, torch.Tensor], bias: torch.Tensor, symmetric: bool, side: int
) -> nn.Module:
    """A network whose logits are those sums: fc1 has the trained units, and two a class, relu(z) and relu(-z)."""
    known: Any = unwrap(start)
    classes = len(bias)
    sizes = {name: info_of(start).architecture[name] for name in ("channels", "kernels", "pools")}
    trained = known.fc1.out_features if "trained" in weights else 0
    sizes |= {"hidden": trained + 2 * classes, "classes": classes, "side": side}
    model = make_network(CNN, symmetric, **sizes)
    network: Any = unwrap(model)
    for name in ("conv1", "conv2", "norm2"):
        getattr(network, name).load_state_dict(getattr(known, name).state_dict())
    regions = len(weights["regions"]) // len(weights["whole"])
    score = (weights["regions"] + weights["whole"].repeat_interleave(regions, 0) / regions).T
    network.norm3.running_var.fill_(1 - network.norm3.eps)
    network.fc1.weight.copy_(torch.cat([known.fc1.weight[:trained], score, -score]))
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(network.norm3, name)[:trained] = getattr(known.norm3, name)[:trained]
    one = torch.eye(classes)
    of_trained = weights["trained"].T if trained else torch.zeros(classes, 0)
    network.fc2.weight.copy_(torch.cat([of_trained, one, -one], 1))
    network.fc2.bias.copy_(bias)
    return model.eval()
