#!/usr/bin/python3
"""What uWSGI's emperor starts for a vassal: the uWSGI of its own release, with the application's environment.

The emperor calls this in place of uWSGI with uWSGI's arguments. The vassal's file is a link into
its slot, whose state.json names the release's uWSGI. Python 3.6, standard library only.
"""

import json
import os
import sys


def main(arguments):
    """Replace this process by uWSGI, which the emperor watches by its process id."""
    file = next(argument for argument in arguments if argument.endswith(".ini"))
    slot = os.path.dirname(os.path.realpath(file))
    with open(os.path.join(slot, "state.json"), encoding="utf-8") as stream:
        state = json.load(stream)
    with_env = os.path.join(state["facts"]["release_dir"], "tool", "with_env.py")
    program = state["command"]
    os.environ["APP_RELEASE"] = state["release"]
    command = ["/usr/bin/python3", with_env, state["env_file"], "-", program]
    os.execv(command[0], command + arguments)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
