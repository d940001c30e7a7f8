"""Runs a program of a scaling group as it is, but with shorter waits and in a folder: quick.py TOOL FOLDER NAME ...

TOOL: folder of the release tool. FOLDER: holds store/, incoming/ and the release host's own files. NAME: module of the
program. Python 3.6 and later.
"""

import importlib
import os
import sys
from typing import Any

tool, folder, name, *arguments = sys.argv[1:]
# A tool imports what lies beside it, and its link may change meanwhile.
sys.path[:0] = [tool if name == "release" else os.path.realpath(tool)]
paths: Any = importlib.import_module("contract.paths")
files: Any = importlib.import_module("files")
paths.STORE, paths.ROOT, paths.LOG, files.LOCK = folder + "/store", folder, folder + "/log", folder + "/lock"
shorter: Any = {
    "offers": {"LIFE_SECONDS": 15.0, "LOOK_SECONDS": 1.0, "WAIT_SECONDS": 30.0},
    "versions": {"LIFE_SECONDS": 3.0, "_LOOK_SECONDS": 0.2},
    "release_host": {"STEP_SECONDS": 0.1},
    "member": {"STEP_SECONDS": 0.1, "RETRY_SECONDS": 0.5},
    # No file system is mounted there.
    "roll": {"is_mounted": os.path.isdir},
    "joined": {"STEP_SECONDS": 0.1, "REFUSED_SECONDS": 2.0},
    "lease": {"LEASE_SECONDS": 12.0},
}
for module, constants in shorter.items():
    for constant, value in constants.items():
        found = importlib.import_module(module)
        assert hasattr(found, constant)
        setattr(found, constant, value)
program: Any = importlib.import_module(name)
sys.exit(program.main(arguments))
