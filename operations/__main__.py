"""`python -m operations`, which `./stack` runs."""

import click

from operations.cli import ROOT, Group, commands
from operations.where import find


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after a stack, wherever it lives: rehearsed on this host, or deployed with pulumi up."""


for each in commands(lambda *where: find(ROOT, *where), says_where=True):
    main.add_command(each)

if __name__ == "__main__":
    main(prog_name="./stack")
