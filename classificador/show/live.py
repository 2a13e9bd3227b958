"""Training curves that redraw in place in a notebook cell while fit() runs."""

import time

import matplotlib.pyplot as plt
from IPython.display import display

from classificador.show.figures import training_curves
from classificador.training.history import History


class LiveCurves:
    """Give it to fit(watch=…): draws the history in one output that is updated, not repeated.

    Drawing is throttled to about 2 % of the training time, 10 % where epochs are short: call draw() at the end.
    Works in every front end that knows display updates (JupyterLab, Notebook 7, VS Code) and headless.
    """

    SHARE, EPOCH_SHARE = 0.02, 0.1

    def __init__(self):
        self.figure, self.handle, self.entries = None, None, 0
        self.next = self.sooner = 0.0

    def __call__(self, history: History) -> None:
        """Redraw if enough time has passed since the last drawing; after an epoch, sooner."""
        started, entries = time.perf_counter(), len(history.val_loss)
        if started < (self.next if entries == self.entries else self.sooner):
            return
        self.entries = entries
        self.draw(history)
        ended = time.perf_counter()
        self.next = ended + max(2.0, (ended - started) / self.SHARE)
        self.sooner = ended + (ended - started) / self.EPOCH_SHARE

    def draw(self, history: History) -> None:
        """Redraw now."""
        self.figure = training_curves(history, self.figure)
        plt.close(self.figure)  # else the inline backend would show it once more at the end of the cell
        if self.handle is None:
            self.handle = display(self.figure, display_id=True)
        else:
            self.handle.update(self.figure)
