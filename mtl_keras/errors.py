"""The one exception for what a person can mend."""


class UserError(ValueError):
    """A flag, path, file or shape that a person got wrong.

    The message is one line that names the thing, what was expected and how to mend it. Commands print it without a
    traceback and exit with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of what a library raised, or its kind where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(". ") if text else type(error).__name__


def first_sentence(error: BaseException) -> str:
    """The first sentence of what a library raised: those after it may advise to load a stranger's file all the same."""
    return first_line(error).partition(". ")[0]


def on_one_line(name: object) -> str:
    """A name as it can be printed: line ends, other control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(name))
