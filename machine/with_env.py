"""Start a program with the application's environment: with_env.py FILE LOG PROGRAM [ARGUMENT...]

FILE is a JSON object of text to text, readable by the application's group. The values
reach the program as its environment and nothing else: they are on no command line and
in no configuration of the process manager. LOG gets what the program prints; `-` leaves
that to the process manager. Python 3.6, standard library only.
"""

import json
import os
import sys


def main(arguments):
    """Replace this process by PROGRAM, so that signals and the process id are the program's own."""
    file, log, command = arguments[0], arguments[1], arguments[2:]
    try:
        with open(file, encoding="utf-8") as stream:
            env = json.load(stream)
        # As bytes: Python 3.6 without a locale would refuse what is not ASCII.
        os.environb.update({name.encode(): value.encode() for name, value in env.items()})
        if log != "-":
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except (OSError, ValueError) as error:
        sys.exit("wsgi-ecs: cannot start {} with {}: {}".format(command[0], file, error))


if __name__ == "__main__":
    main(sys.argv[1:])
