"""Start a program with the application's environment: with_env.py FILE PROGRAM [ARGUMENT...]

FILE is a JSON object of text to text, readable by the application's group. The values
reach the program as its environment and nothing else: they are on no command line and
in no configuration of the process manager. Python 3.6, standard library only.
"""

import json
import os
import sys


def main(arguments):
    """Replace this process by PROGRAM, so that signals and the process id are the program's own."""
    file, command = arguments[0], arguments[1:]
    try:
        with open(file, encoding="utf-8") as stream:
            env = json.load(stream)
        # As bytes: Python 3.6 without a locale would refuse what is not ASCII.
        os.environb.update({name.encode(): value.encode() for name, value in env.items()})
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except (OSError, ValueError) as error:
        sys.exit("wsgi-ecs: cannot start {} with {}: {}".format(command[0], file, error))


if __name__ == "__main__":
    main(sys.argv[1:])
