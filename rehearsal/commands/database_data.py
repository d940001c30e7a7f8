"""What a preview says of the data of MySQL: which update makes a server that refuses them."""

from collections.abc import Iterator

from rehearsal.cloud import tokens
from rehearsal.commands.foresee import Preview
from rehearsal.commands.rendered_files import archive_name, host_of


def refused(stack: str, preview: Preview) -> Iterator[str]:
    """A line for a database whose new server has another operating system, and refuses the data of the old one."""
    for change in preview.changes:
        if change.record.type == tokens.COPY_TO_REMOTE:
            old, new = (host_of(preview.archives / archive_name(record)) for record in (change.old, change.new))
            if "datadir" in old and "datadir" in new and old["system"] != new["system"]:
                yield (
                    f"the new database server of {new['system']} refuses the data of {old['system']}, when the old "
                    f"server is gone and the site is down; ./rehearse backup --stack {stack} FILE copies the data, "
                    "and restore reads them into a new stack"
                )
