"""Says by its exit status whether this member of a scaling group runs what runs on one member at a time: 0 or 1.

    has_lease.py [SOCKET SECONDS]

It asks the member's program (lease_socket.py), because the user of a site may not read the store. No answer in SECONDS
is a no: a command that is left out once is better than one that runs twice. Python 3.6, standard library only.
"""

import socket
import sys
import time
from typing import List

from contract import paths

# The member's program starts again when its release tool changes, which takes some seconds.
SECONDS = 20.0


def ask(path: str, seconds: float) -> bool:
    """Whether the member's program says yes. Raises OSError when it says nothing."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(max(end - time.monotonic(), 0.1))
                connection.connect(path)
                answer = connection.recv(1)
                if answer:
                    return answer == b"1"
        except (FileNotFoundError, ConnectionError):
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise TimeoutError("no answer for {:.0f} s".format(seconds))
        time.sleep(0.5)


def main(arguments: List[str]) -> int:
    """Returns the exit status."""
    path, seconds = arguments or (paths.LEASE_SOCKET, str(SECONDS))
    try:
        return 0 if ask(path, float(seconds)) else 1
    except OSError as error:
        text = "wsgi-ecs: this run is left out, because nobody says which member runs it: {}: {}"
        print(text.format(path, error), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
