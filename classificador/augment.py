"""Data augmentation on whole batches: random shift, mirroring and cutout, on any device."""

import torch


def draw_moves(count: int, shift: int, generator: torch.Generator) -> torch.Tensor | None:
    """Return random moves of so many images, pixels down and right, 2×N×1, at most `shift` each way; None for 0."""
    if shift == 0:
        return None
    return torch.randint(-shift, shift + 1, (2, count, 1), generator=generator, device=generator.device)


def augment(images: torch.Tensor, moves: torch.Tensor | None, mirrored: torch.Tensor | None) -> torch.Tensor:
    """Return a shifted and, where asked for, mirrored copy of a batch.

    images: uint8 or float, N×C×S×S. moves: of draw_moves(); what they uncover is filled by reflection.
    mirrored: bool, N: which images to turn left to right; None: none. The result has the shape and type of `images`.
    """
    if moves is None and mirrored is None:
        return images
    if moves is None:
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
    n, side, device = len(images), images.shape[-1], images.device
    position = torch.arange(side, device=device)
    rows, columns = (_reflect(position + move, side) for move in moves)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], side - 1 - columns, columns)
    image = torch.arange(n, device=device)[:, None, None]
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def draw_holes(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return the random centres of so many holes, row and column, 2×N×1, anywhere in images of side×side."""
    return torch.randint(side, (2, count, 1), generator=generator, device=generator.device)


def cut_out(images: torch.Tensor, centres: torch.Tensor, size: int) -> torch.Tensor:
    """Return a copy in which a square of each image is grey, 128 (DeVries and Taylor 2017, arXiv 1708.04552).

    images: uint8, N×C×S×S. centres: of draw_holes(). size: pixels, even; less of it shows where it crosses the border.
    """
    position = torch.arange(images.shape[-1], device=images.device)
    rows, columns = ((position >= centre - size // 2) & (position < centre + size // 2) for centre in centres)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 128)


def _reflect(position: torch.Tensor, side: int) -> torch.Tensor:
    """Mirror positions outside 0 … side-1 back inside, without repeating the border pixel."""
    return side - 1 - (side - 1 - position.abs()).abs()
