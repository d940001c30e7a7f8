"""`python -m rehearsal`, which `./rehearse` runs."""

from rehearsal.cli import main

main()
