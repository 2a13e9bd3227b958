"""Ctrl-C, the notebook's stop button, SIGTERM, a closed terminal: noted at once, acted upon between two batches."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Ctrl-C, a polite end, and a terminal that was closed (which Windows has not).
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequest:
    """`number` is that of the first signal that asked to stop, 0 while none has."""

    number = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP end nothing; they set `.number` of what the block gets.

    An exception in the middle of an optimizer step would leave half of the weights updated: no run could go on from
    there as if nothing had happened. A signal that was ignored before stays so, as under nohup. Outside the main thread
    signals cannot be caught, and none is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number, frame) -> None:
        request.number = request.number or number

    heeded = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    earlier = {number: signal.signal(number, note) for number in heeded}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
