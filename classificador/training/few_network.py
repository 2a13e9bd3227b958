"""A network like CNN as few.py takes it apart: its layers' answers, a head that is computed, a conv2 that is tuned."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from classificador.network.cnn import contrast, max_and_mean
from classificador.training.regression import Answers, Regression
from classificador.training.trainer import lr_factor

# Of conv2, where colour does not matter; the head learns a third as fast.
LR, EPOCHS, BATCH, SMOOTHING = 2e-3, 6, 50, 0.1
MOST_BYTES = 10**9  # of what conv1 answers, kept while conv2 learns


def own_units(network: Any) -> int:
    """Return how many of fc1's units are the trained ones, before two for each class."""
    return network.fc1.out_features - 2 * network.fc2.out_features


def first_pooled(network: Any, images: torch.Tensor) -> torch.Tensor:
    """Return what conv2 reads, N×channels×H×W, of images in [0, 1], N×3×S×S."""
    return F.relu(contrast(F.max_pool2d(network.conv1((images - 0.5) / 0.5), network.pools[0])))


def by_region(network: Any, x: torch.Tensor) -> torch.Tensor:
    """Return what fc1 reads of first_pooled(), N×2·channels×H×W, by region."""
    return F.relu(network.norm2(max_and_mean(network.conv2(x), network.pools[1])))


def head(network: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the logits, N×classes, of what fc1 reads, N×numbers."""
    return network.fc2(F.relu(network.norm3(network.fc1(x))))


def answers(network: Any, images: torch.Tensor) -> Answers:
    """What fc1 reads of images in [0, 1] ("regions"), its mean over the regions, and what its trained units answer."""
    parts, own = [], own_units(network)
    for some in images.split(200):
        x = by_region(network, first_pooled(network, some))
        found = {"regions": x.flatten(1), "mean": x.mean((2, 3))}
        if own:  # none where the images have another side than those of the training before
            found["trained"] = F.relu(network.norm3(network.fc1(found["regions"])))[:, :own]
        parts.append(found)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def put(network: Any, terms: list[tuple[float, Regression]]) -> None:
    """Let the logits of a network be the weighted sum of regressions; fc1 has relu(z) and relu(-z) of what is new."""
    weights: Answers = {}
    bias = torch.zeros(network.fc2.out_features)
    for share, one in terms:
        bias += share / one.temperature * one.bias
        for name, weight in one.weights.items():
            weights[name] = weights.get(name, torch.zeros_like(weight)) + share / one.temperature * weight
    regions, own, unit = len(weights["regions"]) // len(weights["mean"]), own_units(network), torch.eye(len(bias))
    score = (weights["regions"] + weights["mean"].repeat_interleave(regions, 0) / regions).T
    network.fc1.weight[own:] = torch.cat([score, -score])
    for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1 - network.norm3.eps)):
        getattr(network.norm3, name)[own:] = value
    of_trained = weights["trained"].T if own else torch.zeros(len(bias), 0)
    network.fc2.weight.copy_(torch.cat([of_trained, unit, -unit], 1))
    network.fc2.bias.copy_(bias)


def tune(
    network: Any, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator, is_over: Callable[[], bool]
) -> bool:
    """Let conv2 learn, too, from the pictures and their copies, and the linear layers with it, a third as fast.

    The normalisations stay as they are. What conv1 answers is computed once, unless it would fill the memory.
    Returns whether it came to its end.
    """
    labels = labels.repeat(len(images) // len(labels))
    size = len(images) * first_pooled(network, images[:1]).nbytes
    inputs = torch.cat([first_pooled(network, some) for some in images.split(200)]) if size < MOST_BYTES else None
    if inputs is not None:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    linear = [network.fc1.weight, network.fc2.weight, network.fc2.bias]
    was = {weight: weight.requires_grad for weight in network.parameters()}
    for weight in was:
        weight.requires_grad_(any(weight is one for one in (network.conv2.weight, *linear)))
    groups = [{"params": [network.conv2.weight], "lr": LR}, {"params": linear, "lr": LR / 3}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    batch, stopped = min(BATCH, len(labels)), False
    steps = EPOCHS * (len(labels) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps) if step < steps else 0)
    for _ in range(EPOCHS):
        rows = torch.randperm(len(labels), generator=generator)
        for some in rows[: len(rows) // batch * batch].split(batch):
            x = first_pooled(network, images[some]) if inputs is None else inputs[some]
            with torch.enable_grad():
                scores = head(network, by_region(network, x).flatten(1))
                loss = F.cross_entropy(scores, labels[some], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if stopped := is_over():
            break
    for weight, requires_grad in was.items():
        weight.requires_grad_(requires_grad)
    return not stopped


def spread(network: Any, answered: Answers) -> torch.Tensor:
    """Return how far the logits of pictures lie apart, one number."""
    logits = head(network, answered["regions"])
    return (logits - logits.mean(1, keepdim=True)).norm()
