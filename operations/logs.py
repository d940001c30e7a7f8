"""`logs`: the logs of all machines as one, by time."""

import os
import signal
import sys

from operations.errors import UserError
from operations.log_choice import Choice
from operations.log_streams import Reader, Streams
from operations.log_view import View
from operations.machines import Stack


def logs(stack: Stack, choice: Choice, machine: str | None) -> int:
    """Print the entries that are chosen. Returns the exit code, 1 if a machine cannot be read. Raises UserError.

    machine: the only one, None for all.
    """
    stack.check_site(choice.site)
    chosen = [stack.machine(machine)] if machine else list(stack.machines)
    # Such as NO_COLOR of https://no-color.org.
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    view = View([each.name for each in chosen], coloured)
    # As Ctrl-C, so that nothing is left running on the machines.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    streams = Streams(chosen, choice.request)
    try:
        return _show(streams, view, choice)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever reads the output, such as head, has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        streams.end()


def _show(streams: Streams, view: View, choice: Choice) -> int:
    for entry in streams.history():
        sys.stdout.write(view.text(entry))
    sys.stdout.flush()
    for found in streams.live():
        if isinstance(found, Reader):
            if found.problem:
                print(f"{found.machine.name}: {found.problem}", file=sys.stderr)
            continue
        sys.stdout.write(view.text(found))
        sys.stdout.flush()
    problems = any(reader.problem for reader in streams.readers)
    if choice.process and not problems and not any(reader.has_sources for reader in streams.readers):
        allowed = "allowed: a name of processes or schedule in the settings"
        raise UserError(f"--process {choice.process}: no machine has a log of such a process; {allowed}")
    return 1 if problems else 0
