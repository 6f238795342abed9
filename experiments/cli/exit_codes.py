"""Exit codes of `jsafe`."""

OK = 0
INTERNAL_ERROR = 1
USER_ERROR = 2
"""Exit code for errors that the user can correct."""

INTERRUPTED = 130
"""Exit code of a run that was stopped and can be resumed, as shells report Ctrl-C."""
