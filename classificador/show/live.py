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

    def __init__(self) -> None:
        self.handle = None  # of the output, once there is one
        # The last drawing: of how many epochs it was, when it ended, and the seconds it took.
        self.entries, self.ended, self.took = 0, float("-inf"), 0.0

    def __call__(self, history: History) -> None:
        """Redraw if enough time has passed since the last drawing; after an epoch, sooner."""
        new_epoch = len(history.val_loss) != self.entries
        wait = self.took / self.EPOCH_SHARE if new_epoch else max(2.0, self.took / self.SHARE)
        if time.perf_counter() >= self.ended + wait:
            self.draw(history)

    def draw(self, history: History) -> None:
        """Redraw now."""
        started = time.perf_counter()
        figure = training_curves(history)
        plt.close(figure)  # else the inline backend would show it once more at the end of the cell
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)
        self.entries, self.ended = len(history.val_loss), time.perf_counter()
        self.took = self.ended - started
