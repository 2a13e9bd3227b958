"""What the package tells its user in passing, a line each. Where the lines go is for the front doors to say."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


def _print(text: str) -> None:
    """Print above a progress bar, if there is one, and at once, also into a pipe."""
    tqdm.write(text)
    sys.stdout.flush()


_listeners: list[Callable[[str], object]] = [_print]  # the last one hears


def tell(text: str) -> None:
    """Tell the user one line, in Portuguese."""
    _listeners[-1](text)


@contextmanager
def told_to(listener: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, let `listener` get the lines, such as one that writes them to standard error."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()
