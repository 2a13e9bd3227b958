"""What is refused now and then, and a moment later is not: by network drives; on Windows, by virus scanners."""

import errno
import time
from collections.abc import Callable, Collection
from typing import TypeVar

Result = TypeVar("Result")
HICCUPS = (0.1, 0.5)  # seconds after which something is tried again
PASSING = {errno.EIO, errno.ETIMEDOUT, getattr(errno, "ESTALE", errno.EIO)}  # what such drives answer now and then
HELD = {errno.EACCES, errno.EPERM}  # of a file that on Windows another program has open


def patiently(act: Callable[[], Result], refusals: Collection[int] = PASSING) -> Result:
    """Return what act() gives; where it is refused it is called again, three times in all, and then raises."""
    for pause in HICCUPS:
        try:
            return act()
        except OSError as error:
            if error.errno not in refusals:
                raise
            time.sleep(pause)
    return act()
