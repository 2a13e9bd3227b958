"""Which pictures show nearly the same: frames of a burst or a video, copies made smaller or cropped a little.

A network that has learnt from one of them knows the others: they belong on one side of every split.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

SAME = 0.93  # correlation from which on, looked at by eye, nearly all pairs of CIFAR-10 are one photograph
SIZE = 16  # pixels to which images are reduced to be compared
FLAT = 0.5  # levels of 255 by which the pixels of a picture differ, at most, that is of one colour
CUTS = {1: (0, 1, 2), 2: (0, 1, 2), 3: (1,)}  # 32nds of the side that are cut off, and how much of it above or left
MOST = 5000  # pictures that are compared: of more the table of all pairs would take too long


def directions(images: torch.Tensor) -> torch.Tensor:
    """Return reduced images (N×3×S×S) as vectors of mean 0 and length 1, whose products are correlations."""
    pixels = F.adaptive_avg_pool2d(images.float(), SIZE).flatten(1)
    return F.normalize(pixels - pixels.mean(1, keepdim=True))


def near_groups(images: torch.Tensor) -> torch.Tensor:
    """Return a number for each image (uint8 N×3×S×S), the same for those that show nearly the same: int64 N.

    Compared are the correlations of their pixels at 16×16, also mirrored and with a rim cut off. Groups grow by average
    linkage: their members have SAME on average, or more where all images are much alike, so that a chain of likenesses
    does not make one group of a class. Of more than MOST images each is a group of its own.
    """
    count = len(images)
    if count > MOST or count < 2:
        return torch.arange(count)
    plain, colours = directions(images), images.float().mean((2, 3))
    alike = torch.full((count, count), -1.0)
    for view in _views(images):
        torch.maximum(alike, directions(view) @ plain.T, out=alike)
    flat = images.float().std((2, 3)).amax(1) < FLAT
    same_colour = torch.cdist(colours, colours, p=torch.inf) <= FLAT
    alike = torch.where(flat[:, None] | flat, same_colour.float(), torch.maximum(alike, alike.T))
    least = max(SAME, _unusual(alike))
    distances = (1 - alike).clamp(min=0).fill_diagonal_(0)
    tree = linkage(squareform(distances.double().numpy(), checks=False), method="average")
    return torch.from_numpy(fcluster(tree, 1 - least, criterion="distance")).long() - 1


def _unusual(alike: torch.Tensor) -> float:
    """Return the correlation that hardly any two of these images would have by chance, as smooth ones do.

    Four deviations above the median in Fisher's z, both robust, so that near copies, as long as they are few of the
    pairs, do not count.
    """
    rows, columns = torch.triu_indices(len(alike), len(alike), 1)
    z = alike[rows, columns].clamp(-0.999, 0.9999).atanh()
    median = z.median()
    return float(torch.tanh(median + 4 * 1.4826 * (z - median).abs().median()))


def _views(images: torch.Tensor) -> Iterator[torch.Tensor]:
    """The images as they are, mirrored, and with a rim cut off: all around, or more of it at some sides."""
    side = images.shape[-1]
    yield images
    yield images.flip(3)
    for parts, places in CUTS.items():
        cut = max(1, round(parts * side / 32))
        for top, left in product(places, places):
            rows, columns = (slice(start := round(place * cut), start + side - 2 * cut) for place in (top, left))
            yield images[:, :, rows, columns]
