"""uv in place of pip for the application's requirements, where both install the same: uv takes a fraction of the time.

What uv does not know as pip does is left to pip, and so is what uv fails with: pip's word on a failure is the one that
counts, and that hints.py reads.

~/uv-<version>/bin/uv   installed once, by pip, from the release's pin with its hashes
~/.cache/uv             wheels that uv has downloaded or built, for the next environments

Python 3.6, standard library only.
"""

import ast
import glob
import os
import re
import tempfile
from typing import TYPE_CHECKING, Dict, List, Optional

import files
from commands import ReleaseError

if TYPE_CHECKING:
    from build_user import Builder

# Options of a requirements file that mean the same to both.
_KNOWN = {"-r", "-c", "-e", "--requirement", "--constraint", "--editable", "--hash"}
_OPTION = re.compile(r"(?:^|\s)(--?[A-Za-z][\w-]*)")
_COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
_SETTING = re.compile(r"^(:env:|[a-z]+)\.([a-z-]+)=(.+)$", re.MULTILINE)
# pip's settings that decide nothing about what is installed.
_IRRELEVANT = {
    "timeout", "default-timeout", "retries", "disable-pip-version-check", "no-input", "no-color", "progress-bar",
    "quiet", "cache-dir", "root-user-action", "no-python-version-warning", "require-virtualenv",
}  # fmt: skip
# The environment outweighs the section of a command, which outweighs the section for all.
_SECTIONS = ("global", "install", ":env:")
# pip's settings → the variables by which uv takes them, and what separates their values there.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "cert": ("SSL_CERT_FILE", " "),
    "no-index": ("UV_NO_INDEX", " "),
}
_OPTIONS = (
    "-q", "--no-progress", "--no-config", "--no-sources", "--system-certs", "--compile-bytecode",
    # As pip: the best version, from whichever index.
    "--index-strategy", "unsafe-best-match",
)  # fmt: skip


def reason_for_pip(texts: List[str]) -> str:
    """Why pip has to install these requirements, "" when uv may. texts: of all the files that they name."""
    for text in texts:
        others = set(_OPTION.findall(_COMMENT.sub("", text))) - _KNOWN
        if others:
            return "uv does not take {} from a requirements file".format(" ".join(sorted(others)))
    return ""


class Uv:
    """Runs uv as the build user. Making one installs uv unless it is there; raises ReleaseError."""

    def __init__(self, builder: "Builder", pin: str, pip: str) -> None:
        self.builder, self.pip = builder, pip
        self.name = pin.split()[0].replace("==", " ")
        home = builder.user.pw_dir
        folder = os.path.join(home, self.name.replace(" ", "-"))
        self.program = os.path.join(folder, "bin/uv")
        if os.path.isfile(self.program):
            return
        for left in glob.glob(os.path.join(home, "uv-*")):
            files.remove(left)
        # What a server's package has left running could put a link where root writes.
        builder.end_leftovers()
        scratch = tempfile.mkdtemp(prefix="uv-", dir=home)
        try:
            with open(os.path.join(scratch, "pin.txt"), "x", encoding="utf-8") as file:
                file.write(pin + "\n")
            builder.take(scratch)
            options = ("-q", "--disable-pip-version-check", "--require-hashes", "--target", scratch + "/uv")
            builder.run(pip, "install", *options, "-r", file.name)
            # Root moves it under its name only when nothing of the build user can exchange it any more.
            builder.end_leftovers()
            os.rename(scratch + "/uv", folder)
        finally:
            files.remove(scratch)

    def install(self, venv: str, folder: str, commands: List[List[str]], variables: Dict[str, str]) -> str:
        """Run `uv pip install` with the arguments of each command. Returns why pip has to do it, "" when it is done."""
        own = self._settings(variables)
        if own is None:
            return "pip has settings that uv does not know"
        # uv would not ask an index again for some minutes, and miss a version that was just published.
        cache = os.path.join(self.builder.user.pw_dir, ".cache/uv")
        pages = ("-maxdepth", "1", "-name", "simple-v*", "-exec", "rm", "-rf", "{}", "+")
        self.builder.run("find", cache, *pages, check=False)
        for command in commands:
            try:
                self.builder.run(
                    self.program, "pip", "install", "--python", venv + "/bin/python", *_OPTIONS, *command,
                    cwd=folder, variables=own,
                )  # fmt: skip
            except ReleaseError:
                return "uv does not install them"
            finally:
                # uv leaves a file there that everybody may write.
                files.remove(venv + "/.lock")
        return ""

    def _settings(self, variables: Dict[str, str]) -> Optional[Dict[str, str]]:
        """What pip's configuration, which uv does not read, and its variables say, as uv's variables.

        None for a setting that uv does not know.
        """
        output = self.builder.run(self.pip, "config", "list", variables=variables)
        settings = [setting for setting in _SETTING.findall(output) if setting[1] not in _IRRELEVANT]
        if any(section not in _SECTIONS or name not in _VARIABLES for section, name, _ in settings):
            return None
        own = {}  # type: Dict[str, str]
        for _, name, value in sorted(settings, key=lambda setting: _SECTIONS.index(setting[0])):
            variable, separator = _VARIABLES[name]
            own[variable] = separator.join(str(ast.literal_eval(value)).split())
        # A Python of uv's own would not be the server's.
        own.update(UV_PYTHON_DOWNLOADS="never", UV_HTTP_TIMEOUT="60")
        return dict(variables, **own)
