"""The errors a user can cause or meet. Every message is one line in Portuguese: what is wrong, then what to do."""


class ClassificadorError(Exception):
    """Base of all errors that the user can mend; shown as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the notebook in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def brief(error: Exception | str) -> str:
    """Return a foreign text or error on one line, cut short, with no characters that act on a terminal."""
    return printable(" ".join(str(error).split())[:200])


def printable(text: str) -> str:
    """Return a text, as a file's name, with line breaks and whatever else acts on a terminal written as \\n, \\x1b…"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DataError(ClassificadorError):
    """The data set could not be brought, read or verified."""


class CheckpointError(ClassificadorError):
    """A checkpoint is missing, damaged, of another kind, or could not be written."""


class ExportError(ClassificadorError):
    """A model could not be exported, or the exported file answers otherwise."""


class ImageError(ClassificadorError):
    """A picture could not be read."""


class NotFiniteError(CheckpointError):
    """A tensor of a file holds NaN or infinity."""


class DivergenceError(ClassificadorError):
    """The loss, or what Adam keeps of its gradients, became NaN, infinite or hopelessly large."""


class SettingsError(ClassificadorError, ValueError):
    """A setting has an impossible value; the message says the remedy.

    field: the setting's name, which the message begins with (the command line says the option instead); "": none alone.
    """

    def __init__(self, remedy: str, field: str = ""):
        super().__init__(remedy, field)  # what pickle makes it anew from, for other processes
        self.remedy, self.field = remedy, field

    def __str__(self) -> str:
        return f"{self.field}: {self.remedy}" if self.field else self.remedy


class SourceError(Exception):
    """Why one source of the data did not serve, in a few words."""


class SlowError(SourceError):
    """It only was too slow."""
