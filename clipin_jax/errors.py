"""The one exception that is meant for the user's eyes."""


class ClipinError(Exception):
    """Something the user can mend: says what was wrong, where, and what to do.

    The command line prints it as a single line, without a traceback.
    """
