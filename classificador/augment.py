"""Data augmentation on whole batches: random shift and mirroring, on any device."""

import torch


def augment(images: torch.Tensor, shift: int, mirrored: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a randomly shifted and, where asked for, mirrored copy of a batch.

    images: uint8 or float, N×C×S×S. shift: at most this many pixels each way, the border filled by reflection.
    mirrored: bool, N: which images to turn left to right. generator: of the same device as the images.
    The result has the shape and type of `images`.
    """
    if shift == 0:
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
    n, side, device = len(images), images.shape[-1], images.device
    position = torch.arange(side, device=device)
    moves = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator, device=device)
    rows, columns = (_reflect(position + move, side) for move in moves)
    columns = torch.where(mirrored[:, None], side - 1 - columns, columns)
    image = torch.arange(n, device=device)[:, None, None]
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _reflect(position: torch.Tensor, side: int) -> torch.Tensor:
    """Mirror positions outside 0 … side-1 back inside, without repeating the border pixel."""
    return side - 1 - (side - 1 - position.abs()).abs()
