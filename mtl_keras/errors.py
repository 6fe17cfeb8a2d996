"""The one exception for what a person can mend."""


class UserError(ValueError):
    """A flag, path, file or shape that a person got wrong.

    The message is one line that names the thing, what was expected and how to mend it. Commands print it without a
    traceback and exit with status 2.
    """
