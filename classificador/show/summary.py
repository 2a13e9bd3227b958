"""A table of a network's layers: what comes out of each, and how many weights it has."""

import torch
from torch import nn

from classificador.network.cnn import unwrap
from classificador.network.model_info import info_of
from classificador.portuguese import number


@torch.no_grad()
def layer_table(model: nn.Module, side: int | None = None) -> str:
    """Return an aligned table (Portuguese) of layer, output shape and parameters for one image of a side, in pixels.

    side: None for the one that the model knows.
    A layer with frozen weights is marked: they do not learn. What is computed without weights is not in it.
    """
    rows, hooks, side = [], [], side or info_of(model).side
    for name, layer in unwrap(model).named_children():
        hooks.append(
            layer.register_forward_hook(lambda layer, _, out, name=name: rows.append((name, layer, out.shape[1:])))
        )
    training = model.training
    try:
        model.eval()(torch.zeros(1, 3, side, side, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    line = "{:<10}{:<14}{:<14}{:>12}".format
    lines = [line("Camada", "Tipo", "Saída", "Parâmetros"), "─" * 50]
    for name, layer, shape in rows:
        count = sum(parameter.numel() for parameter in layer.parameters())
        mark = "" if all(parameter.requires_grad for parameter in layer.parameters()) else " (fixos)"
        lines.append(line(name, type(layer).__name__, "×".join(map(str, shape)), number(count, 0)) + mark)
    total = sum(parameter.numel() for parameter in model.parameters())
    return "\n".join([*lines, lines[1], line("Total", "", "", number(total, 0))])
