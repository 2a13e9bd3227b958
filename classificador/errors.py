"""The errors a user can cause or meet, each named after what failed.

ClassificadorError      one line in Portuguese: the problem, then the remedy
├── SettingsError       a setting, or an option of the command line
├── DataError           the data set
├── ImageError          a picture
├── WriteError          writing a file
├── CheckpointError     reading a file of weights, or using what it holds
│   └── NotFiniteError  its numbers
├── DivergenceError     a training
└── ExportError         a model in another format

SourceError             one of several sources of the data; the next one is tried, and no user sees it
└── SlowError
"""


class ClassificadorError(Exception):
    """Base of all errors that the user can mend; shown as one line, without a traceback.

    problem: what is wrong. remedy: what to do about it; "" where the problem says that, too. Both are whole sentences.
    """

    def __init__(self, problem: str, remedy: str = ""):
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".strip()

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the notebook in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SettingsError(ClassificadorError, ValueError):
    """A setting has an impossible value.

    field: the setting's name, which the message begins with (the command line says the option instead); "": none alone.
    """

    def __init__(self, problem: str, remedy: str = "", field: str = ""):
        super().__init__(problem, remedy)
        self.field = field

    def __str__(self) -> str:
        return f"{self.field}: {super().__str__()}" if self.field else super().__str__()


class DataError(ClassificadorError):
    """The data set could not be brought, read or verified."""


class ImageError(ClassificadorError):
    """A picture could not be read."""


class WriteError(ClassificadorError):
    """A file could not be written; what it held before is unchanged."""


class CheckpointError(ClassificadorError):
    """A file of weights is missing, damaged or of another kind, or its weights are not what is asked for."""


class NotFiniteError(CheckpointError):
    """A tensor of a file holds NaN or infinity."""


class DivergenceError(ClassificadorError):
    """The loss, or what Adam keeps of its gradients, became NaN, infinite or hopelessly large."""


class ExportError(ClassificadorError):
    """A model could not be exported, or the exported file answers otherwise."""


class SourceError(Exception):
    """Why one source of the data did not serve, in a few words."""


class SlowError(SourceError):
    """It only was too slow."""


def brief(error: Exception | str) -> str:
    """Return a foreign text or error on one line, cut short, with no characters that act on a terminal."""
    return printable(" ".join(str(error).split())[:200])


def printable(text: str) -> str:
    """Return a text, as a file's name, with line breaks and whatever else acts on a terminal written as \\n, \\x1b…"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
