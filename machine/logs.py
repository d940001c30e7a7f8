"""The last lines of a log, which explain why a release is refused. Python 3.6, standard library only."""

import os
import re


def size(path: str) -> int:
    """Bytes of a file, 0 when there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def tail(path: str, offset: int = 0, lines: int = 40) -> str:
    """The last lines of a file from a byte offset on; an empty text when there is none."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0
            # A log may be large: only its end is read.
            file.seek(max(offset, size(path) - 65536))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


# The last line of a traceback, after which an application server may print many lines of its own.
_REASON = re.compile(r"([A-Za-z_]\w*\.)*\w*(Error|Exception)\b")
# What uWSGI says between its introduction and the application's first line.
_PATH = re.compile(r"added .* to pythonpath\.$")


def printed(path: str, offset: int) -> str:
    """What the application printed into its log: the last lines, preceded by earlier errors that they do not have.

    The lines in which uWSGI introduces itself are left out.
    """
    lines = [line for line in tail(path, offset, 400).splitlines() if not _PATH.match(line)]
    starts = [number for number, line in enumerate(lines) if line.startswith("*** Operational MODE")]
    if len(starts) > 1 and starts[-1] == len(lines) - 1:
        # The program was started again and has not come further yet, so its start before says why.
        again = [number for number, line in enumerate(lines) if line.startswith("*** Starting uWSGI")]
        lines = lines[: again[-1] if again else starts[-1]]
        starts.pop()
    lines = lines[starts[-1] + 1 if starts else 0 :]
    last = lines[-40:]
    reasons = [line for line in lines[:-40] if _REASON.match(line) and line not in last]
    return "\n".join(list(dict.fromkeys(reasons))[-5:] + last)
