"""A command of ssh that has this terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from operations.connection import explain
from operations.machines import Machine

# What a terminal sends to every process of the foreground, ssh among them, and what ends this process from outside.
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGHUP)


def attach(machine: Machine, command: Sequence[str], terminal: bool) -> int:
    """Run ssh with the input and output of this process. Returns its exit code.

    command: a remote command of one word or several, none for a shell. terminal: whether the command needs one.
    """
    sys.stdout.flush()
    flags = ("-t",) if terminal else ()
    code = _run([*machine.way.command(*flags), *(("--", *command) if command else ())])
    # ssh's own failures have this code, and ssh has printed its reason.
    if code == 255 and (text := explain(machine.way)):
        print(f"{machine.name}: {text}", file=sys.stderr)
    return code


def _run(words: Sequence[str]) -> int:
    """Wait for a process. Signals of the terminal are its own; it is suspended and ended with this process."""
    before = {number: signal.getsignal(number) for number in (*_OF_TERMINAL, *_FROM_OUTSIDE)}
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: object) -> None:
        if process is not None:
            process.send_signal(number)

    for number in _OF_TERMINAL:
        # A function, because the child would inherit an ignored signal.
        signal.signal(number, lambda *_: None)
    for number in _FROM_OUTSIDE:
        signal.signal(number, pass_on)
    try:
        process = subprocess.Popen(words)
        while True:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                break
            os.kill(os.getpid(), signal.SIGSTOP)
            process.send_signal(signal.SIGCONT)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
