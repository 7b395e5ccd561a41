"""The one exception that means "the user's input is at fault"."""


class InputError(ValueError):
    """Input that vidtrack can't use: a file, a mask, an option or a config.

    The message is one sentence for the user: what is wrong, where, and what to do. The command line
    prints it without a traceback and exits with code 2.
    """
