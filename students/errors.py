"""UserError: the exception for mistakes that the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A user's mistake: one line that says what is wrong and what would work.

    Commands print the message on stderr and exit with code 2; everything else that is raised is a bug.
    """
