"""One run of the program with an engine: what fails is shown, and the outputs are recorded."""

from pathlib import Path

from rehearsal.cloud.context import CloudContext
from rehearsal.commands.show import Show, logger_of
from rehearsal.engine import program
from rehearsal.engine.engine import Engine, Stopped
from rehearsal.engine.errors import RehearsalError, UserError
from rehearsal.engine.monitor import RehearsalMonitor
from rehearsal.engine.stack import Stack


def execute(root: Path, stack: Stack, engine: Engine[CloudContext], show: Show) -> tuple[int, dict[str, object]]:
    """Run the program, and delete what it no longer registers. Returns the exit code and the stack's outputs.

    Raises UserError for what the program refuses.
    """
    refused: list[str] = []
    monitor = RehearsalMonitor(engine, engine.provider, refused.append)
    try:
        program.run(root, stack, monitor, logger_of(show.note))
    except BaseException as error:
        engine.failed = True
        engine.wait()
        text = program.user_error(error)
        if refused or text is not None:
            raise UserError(refused[0] if refused else str(text)) from None
        if engine.broken is not None:
            raise engine.broken from None
        if isinstance(error, (RehearsalError, UserError, Stopped)):
            show.close()
            show.line(f"failed: {show.summary()}; put it right and run ./rehearse up --stack {stack.name} again", "red")
            return 1, {}
        raise
    try:
        engine.delete_rest()
    except RehearsalError as error:
        show.close()
        show.line(f"failed: {error}", "red")
        return 1, {}
    public = {key: value for key, value in monitor.outputs.items() if key not in monitor.secret_outputs}
    engine.context.state.outputs = public
    return 0, {**public, **dict.fromkeys(monitor.secret_outputs, "[secret]")}
