"""What the package tells its user in passing, a line each. Where the lines go is for the front doors to say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_listeners: list[Callable[[str], object]] = [tqdm.write]  # prints above a progress bar, if there is one; the last hears


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
