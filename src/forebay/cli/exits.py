"""What a command's exit code means, the same for every command."""

from enum import IntEnum


class Exit(IntEnum):
    """The four ways a command can end."""

    FINE = 0
    CHECK_SAYS_NO = 1  # a gate failed, NO-GO, an SLO was missed
    INPUT_IS_WRONG = 2
    ENVIRONMENT_FAILED = 3
