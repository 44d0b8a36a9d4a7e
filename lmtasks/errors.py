"""The one exception for what a user can mend: a file, a row, a column, a setting.

The commands print its message as it is, without a traceback, and exit with 2.
"""


class InputError(ValueError):
    """One line: what was given, what was wanted, what to do; with file, row and column where data are at fault."""
