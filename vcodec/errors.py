"""The one error that reaches a user as a sentence."""


class VcodecError(Exception):
    """Something the user can mend: the message names the file, what is wrong and what to do.

    The command line prints it on stderr and exits with code 1.
    """
