"""`python -m rehearsal`, which `./rehearse` runs."""

import os
import sys

from rehearsal.cli import main

try:
    main(prog_name="./rehearse")
    code = 0
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else 1
sys.stdout.flush()
sys.stderr.flush()
# Pulumi's SDK leaves event loops on its threads; their finalizers would complain now and then at the very end.
os._exit(code)
