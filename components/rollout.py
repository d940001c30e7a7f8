"""A release to servers that come and go: the archives copied to the release host, which rolls them out.

login ─▶ copies ─▶ roll: a delivery in the store, which one member takes first, and then the others
                   all secrets on standard input
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_command as command

from components.release import ReleaseArgs, host_parts, run_tool, said, site_parts
from contract import paths
from contract.resources import HOST_PART, archive_resource, roll_resource, site_part


@dataclass(frozen=True)
class RolloutArgs:
    """release: what each member gets, with the login to the release host. version: of the members that get it.

    at_once: members that take it at a time.
    """

    release: ReleaseArgs
    version: str
    at_once: int


class Rollout(pulumi.ComponentResource):
    """ids: site's name → id of the release that serves. edited_by_hand, warnings: as a Release has them."""

    ids: dict[str, pulumi.Output[str]]
    edited_by_hand: pulumi.Output[list[str]]
    warnings: pulumi.Output[list[str]]

    def __init__(self, name: str, args: RolloutArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:rollout:Rollout", name, None, opts)
        release = args.release
        login, archives = release.login, release.archives
        parts = {HOST_PART: archives.host, **{site_part(site): found for site, found in archives.sites.items()}}
        copies = [
            command.remote.CopyToRemote(
                archive_resource(name, part),
                connection=login.connection,
                source=pulumi.FileAsset(archive.path),
                remote_path=f"{paths.incoming()}/{archive.id}.tar.gz",
                triggers=[archive.id, login.instance_id],
                opts=pulumi.ResourceOptions(parent=self, depends_on=[login.ready]),
            )
            for part, archive in parts.items()
        ]
        ids = {site: archive.id for site, archive in archives.sites.items()}
        stdin: pulumi.Input[str] = pulumi.Output.json_dumps(self._parts(args, ids), sort_keys=True)
        roll = command.remote.Command(
            roll_resource(name),
            connection=login.connection,
            create=run_tool("roll", archives.host.id),
            stdin=pulumi.Output.secret(stdin),
            # A release host that is built anew does what the one before it may have left.
            triggers=[archives.host.id, *ids.values(), args.version, login.instance_id, *release.hosts.values()],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[login.ready, *copies, *release.after]),
        )
        # The id is exported only when the release serves.
        served = {**ids, **release.pins}
        self.ids = {site: roll.id.apply(lambda _, id=id: id) for site, id in served.items()}
        self.edited_by_hand, self.warnings = said([roll])
        self.register_outputs({"ids": self.ids, "edited_by_hand": self.edited_by_hand})

    def _parts(self, args: RolloutArgs, ids: Mapping[str, str]) -> dict[str, pulumi.Input[object]]:
        """What the release host reads on standard input."""
        return {
            "prepare": host_parts(args.release),
            "apply": {site: site_parts(args.release, site) for site in ids},
            "archives": dict(ids),
            "version": args.version,
            "at_once": args.at_once,
        }
