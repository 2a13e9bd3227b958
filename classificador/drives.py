"""Drives that answer late: network drives fail now and then, and a moment later they do not."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
HICCUPS = (0.1, 0.5)  # seconds after which something is tried again
PASSING = {errno.EIO, errno.ETIMEDOUT, getattr(errno, "ESTALE", errno.EIO)}  # what such drives answer now and then


def patiently(act: Callable[[], Result]) -> Result:
    """Return what act() gives; where a drive has a hiccup it is called again, three times in all, and then raises."""
    for pause in HICCUPS:
        try:
            return act()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            time.sleep(pause)
    return act()
