"""A preview, and the run that does what it said. The tests run in this order, on one machine."""

import os
import pty
import re
import shutil
import subprocess
import time
from pathlib import Path

from tests.rehearsal.builders.preview import foretold, machines, names, performed
from tests.rehearsal.builders.stack import CLIENT, Done, Stack, lxd, traces, until

# Nobody, who may read all files: LXD's socket wants to be written to. The project may be in a folder of root's.
NOBODY = [
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
QUESTION = "Do you want to perform this update? [yes/no/details]"
SYSTEMD = {"serving": {"process_manager": "systemd"}}
SECRET = "correct-horse-battery-staple"


def typed(stack: Stack, *answers: str) -> Done:
    """`up` on a terminal, with an answer to each question."""
    stack.write()
    ours, theirs = pty.openpty()
    with subprocess.Popen(stack.command("up"), cwd=stack.folder, stdin=theirs, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        shown, left, deadline = b"", list(answers), time.monotonic() + 420
        while time.monotonic() < deadline:
            try:
                read = os.read(ours, 4096)
            except OSError:
                break
            shown += read
            if left and shown.count(QUESTION.encode()) > len(answers) - len(left):
                os.write(ours, f"{left.pop(0)}\n".encode())
        else:
            run.kill()
    os.close(ours)
    out = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n").replace("\r", "\n")
    print(out)
    return Done(run.returncode, out, "")


def test_without_root_and_without_lxd_every_line_is_a_create(stack: Stack, tmp_path: Path) -> None:
    stack.settings = {"app": {"env": {"TOKEN": SECRET}}}
    stack.write()
    folder = tmp_path / "project"
    shutil.copytree(stack.folder, folder)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    run = subprocess.run([*NOBODY, *stack.command("preview")], cwd=folder, capture_output=True, text=True, timeout=60)
    done = Done(run.returncode, run.stdout, run.stderr)
    print(done.text)
    assert "Permission denied; so nothing is compared, and every line is a create" in done.out
    assert {sign for sign, _ in foretold(done)} == {"+"}
    assert f"{len(foretold(done))} to create" in done.out
    assert re.search(r"user data: \d+ lines, \d+ of 16320 bytes", done.out)
    assert SECRET not in done.text
    assert traces(stack) == set()


def test_a_wrong_setting_is_one_line(stack: Stack) -> None:
    kept, stack.settings = stack.settings, {"sever": {}}
    done = stack.run("preview")
    stack.settings = kept
    assert done.code == 2
    assert done.err.startswith(f"rehearse: stacks/Pulumi.{stack.name}.yaml: sever: unknown key; allowed: ")
    assert done.err.count("\n") == 1


def test_on_a_terminal_up_asks_and_no_means_no(stack: Stack) -> None:
    done = typed(stack, "details", "no")
    assert done.code == 1
    assert done.out.count(QUESTION) == 2
    short, _, details = done.out.partition(QUESTION)
    assert "client_max_body_size" not in short
    assert "client_max_body_size" in details
    assert SECRET not in done.out
    assert traces(stack) == set()


def test_yes_performs_what_was_foretold(stack: Stack) -> None:
    expected = foretold(stack.run("preview"))
    done = typed(stack, "yes")
    assert performed(done) == foretold(done) == expected
    assert len(machines(stack)) == 1
    assert stack.get(done.output("address")).status_code == 200


def test_nothing_changed_is_nothing_to_do_and_nothing_to_ask(stack: Stack) -> None:
    found = traces(stack)
    done = stack.run("preview")
    assert foretold(done) == set()
    assert "14 unchanged" in done.out
    assert traces(stack) == found
    done = typed(stack)
    assert done.code == 0
    assert QUESTION not in done.out


def test_a_changed_setting_is_a_release_with_its_difference(stack: Stack) -> None:
    stack.settings = {**stack.settings, "nginx": {"client_max_body_size": "1k"}}
    preview = stack.run("preview")
    assert foretold(preview) == {("+-", name) for name in names(stack, "site-app-archive", "site-app-apply")}
    assert "\n    -    client_max_body_size 16m;\n    +    client_max_body_size 1k;\n" in preview.out
    assert "the site goes on answering" in preview.out
    done = stack.run("up")
    assert performed(done) == foretold(done) == foretold(preview)


def test_a_changed_secret_is_named_and_not_shown(stack: Stack) -> None:
    stack.settings = {**stack.settings, "app": {"env": {"TOKEN": "tr0ub4dor"}}}
    done = stack.run("preview", "--diff")
    assert foretold(done) == {("~", name) for name in names(stack, "site-app-apply")}
    assert "stdin: [secret] → [secret]" in done.out
    assert SECRET not in done.text
    assert "tr0ub4dor" not in done.text


def test_what_is_taken_away_is_deleted(stack: Stack) -> None:
    stack.settings = {**stack.settings, "access": {"http": ["0.0.0.0/0", "10.9.0.0/16"]}}
    stack.up()
    stack.settings = {**stack.settings, "access": {}}
    preview = stack.run("preview")
    assert foretold(preview) == {("-", name) for name in names(stack, "80-from-10.9.0.0-16")}
    done = stack.run("up")
    assert performed(done) == foretold(preview)


def test_a_protected_server_is_refused_with_two_steps_that_work(stack: Stack) -> None:
    stack.settings = {**stack.settings, "server": {"os": "debian12", "protect": True}}
    stack.up()
    before = machines(stack)
    stack.settings = {**stack.settings, **SYSTEMD}
    for command in ("preview", "up"):
        done = stack.run(command)
        assert done.code == 2
        assert done.err.startswith(f"rehearse: wsgi-ecs-{stack.name}-instance: it is protected, and this replaces it")
        assert "; in two steps: 1. `server.protect: false` " in done.err
        assert done.err.endswith("; 2. this change, and up\n")
        assert done.err.count("\n") == 1
        assert f"+- alicloud:Instance           wsgi-ecs-{stack.name}-instance" in done.out
    assert machines(stack) == before
    stack.settings = {key: value for key, value in stack.settings.items() if key not in ("serving", "server")}
    assert performed(stack.run("up")) == set(), "protection is of Pulumi alone"
    stack.settings = {**stack.settings, **SYSTEMD}
    assert stack.run("preview").code == 0


def test_another_bootstrap_replaces_the_server_and_says_why_and_how_long(stack: Stack) -> None:
    before = machines(stack)
    preview = stack.run("preview")
    ends = (
        "instance", "association", "host-key", "ready", "host-archive", "site-app-archive", "host-apply",
        "site-app-apply",
    )  # fmt: skip
    assert foretold(preview) == {("+-", name) for name in names(stack, *ends)}
    assert "-instance [replaced for changed user data (debian12-" in preview.out
    assert re.search(
        r"^the site is away from when \S+-association goes until \S+-site-app-apply is done: about \d+ s",
        preview.out,
        re.M,
    )
    assert "  + config/app.service: " in preview.out
    assert "  - config/supervisor.conf" in preview.out
    done = stack.run("up")
    assert performed(done) == foretold(done) == foretold(preview)
    assert machines(stack) != before
    assert len(machines(stack)) == 1


def test_a_stopped_machine_is_seen_and_left_to_up(stack: Stack) -> None:
    project, (machine,) = f"wsgi-ecs-{stack.name}", [path.rsplit("/", 1)[1].split("?")[0] for path in machines(stack)]
    subprocess.run([CLIENT, "stop", "--force", "--project", project, machine], check=True, timeout=60)

    def status() -> str:
        return str(lxd(f"/1.0/instances/{machine}?project={project}")["status"])

    preview = stack.run("preview")
    assert foretold(preview) == {("~", name) for name in names(stack, "instance")}
    assert "[it is stopped, and is started]" in preview.out
    assert status() == "Stopped"
    done = stack.run("up")
    assert performed(done) == foretold(preview)
    assert status() == "Running"
    until(lambda: stack.get(done.output("address")).status_code == 200)
