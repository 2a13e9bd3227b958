"""Training curves that redraw in place in a notebook cell while fit() runs."""

import time

from IPython.core.getipython import get_ipython
from IPython.display import display

from classificador.show.figures import training_curves
from classificador.training.history import History

SHARE = 0.03  # of the training time that drawing may take


class LiveCurves:
    """Give it to fit(watch=…): draws the history in one output that is updated, not repeated.

    After a drawing it waits until that has taken no more than SHARE of the time: call draw() at the end.
    Works in every front end that knows display updates (JupyterLab, Notebook 7, VS Code) and headless.
    """

    def __init__(self) -> None:
        self.handle = None  # of the output, once there is one
        self.cell: int | None = None  # the number of the execution that it belongs to
        self.due = float("-inf")  # when to draw again

    def __call__(self, history: History) -> None:
        """Redraw if enough time has passed since the last drawing."""
        if time.perf_counter() >= self.due:
            self.draw(history)

    def draw(self, history: History) -> None:
        """Redraw now; in another cell than before, anew: a page that was loaded again forgot the output."""
        started, cell = time.perf_counter(), getattr(get_ipython(), "execution_count", None)
        figure = training_curves(history)
        if self.handle is None or cell != self.cell:
            self.handle, self.cell = display(figure, display_id=True), cell
        else:
            self.handle.update(figure)
        self.due = started + (time.perf_counter() - started) / SHARE
