"""Running commands, rolling back when one fails, and what is printed for the user.

Python 3.6, standard library only.
"""

import os
import signal
import subprocess
import sys
import traceback
from typing import Any, Callable

# Prints a line for the user.
Say = Callable[[str], object]
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class ReleaseError(Exception):
    """A release that is refused: what is wrong, the lines that explain it, and what the user does next.

    was_rolled_back: whether the old release serves again, if there was one. output: all that the command printed which
    failed.
    """

    was_rolled_back = True
    output = ""

    def __init__(self, what: str, lines: str = "", then: str = "") -> None:
        super().__init__(what)
        self.lines = lines
        self.then = then


class Interrupted(BaseException):
    """A signal that ends the run. It is no error of a step, so whoever goes on after an error does not go on after it.

    serves: whether the release serves already.
    """

    serves = False
    then = "run up again"


def say(text: str, to: Any = None) -> None:
    """Print a line as UTF-8, whatever the locale is. A release goes on when nobody reads its output any more."""
    stream = to or sys.stdout
    try:
        stream.buffer.write(("wsgi-ecs: " + text + "\n").encode("utf-8", "backslashreplace"))
        stream.buffer.flush()
    except OSError:
        pass


def run(*command: str, **options: Any) -> str:
    """Run a command. Returns its output (stdout and stderr); raises ReleaseError when it fails, unless check=False."""
    check = options.pop("check", True)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    # Without a locale, as over SSH, Python 3.6 would decode as ASCII.
    output = str(done.stdout.decode("utf-8", "replace"))
    if check and done.returncode != 0:
        what = "{} ended with {}".format(" ".join(command), done.returncode)
        error = ReleaseError(what, "\n".join(output.splitlines()[-40:]))
        error.output = output
        raise error
    return output


def describe(error: BaseException) -> str:
    """An exception as one line; an unexpected exception names its place in this tool."""
    if isinstance(error, (ReleaseError, OSError, Interrupted)):
        return " ".join(str(error).split())
    here = os.path.dirname(__file__)
    frames = traceback.extract_tb(error.__traceback__)
    place = [frame for frame in frames if os.path.dirname(frame.filename) == here][-1]
    name = os.path.basename(place.filename)
    return "{}: {} ({}:{})".format(type(error).__name__, " ".join(str(error).split()), name, place.lineno)


def roll_back(error: BaseException, undo: Callable[[], object]) -> None:
    """Undo the run that `error` has ended, and ignore signals meanwhile. Raises ReleaseError when that fails too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        undo()
    except (ReleaseError, OSError) as second:
        worse = ReleaseError(
            "{}; and rolling back failed too: {}".format(describe(error), describe(second)),
            "\n".join(filter(None, (getattr(error, "lines", ""), getattr(second, "lines", "")))),
            "check on the server that its services run (systemctl --failed), then run up again, which recovers",
        )
        worse.was_rolled_back = False
        raise worse from error
