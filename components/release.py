"""A release on a server: cloud-init awaited, the archive copied, the release tool run over SSH.

wait ─▶ copy ─▶ prepare what the sites share ─▶ apply each site (secrets on standard input)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command
from pydantic import SecretStr

from components.archive import Archive, Archives
from serving import ServingPlan, layout
from serving.templates import render


@dataclass(frozen=True)
class ReleaseArgs:
    """What is released, and to which server.

    archives: what the sites share, released before them, and theirs. env: site's name → the environment of its
    application, secret. files: site's name → file name → text beside its configs, secret. address, instance_id:
    of the server; a new instance gets all of it again.
    private_key: OpenSSH private key text, or None for the SSH agent. host_key: the server's public host key
    when it is known.
    """

    archives: Archives
    env: Mapping[str, Mapping[str, SecretStr]]
    files: Mapping[str, Mapping[str, SecretStr]]
    address: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    private_key: str | None
    host_key: str | None


def outputs(
    plan: ServingPlan, address: pulumi.Output[str], ids: Mapping[str, pulumi.Output[str]]
) -> dict[str, pulumi.Input[Any]]:
    """What the stack exports: of several sites `url` and `release` are the first one's."""
    urls = {site.place.name: address.apply(site.url) for site in plan.sites}
    first = plan.sites[0].place.name
    several = {"urls": urls, "releases": dict(ids)} if len(urls) > 1 else {}
    ssh = pulumi.Output.concat("ssh root@", address)
    return {"url": urls[first], "address": address, "ssh": ssh, "release": ids[first], **several}


def _plain(secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in secrets.items()}


class Release(pulumi.ComponentResource):
    """Each part is applied when its archive, its environment or the server changes, and no other with it."""

    ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:release:Release", name, None, opts)
        connection = command.remote.ConnectionArgs(
            host=args.address,
            user="root",
            private_key=pulumi.Output.secret(args.private_key) if args.private_key else None,
            host_key=args.host_key,
            # The address answers a little after it is bound, and SSH a little after the boot.
            dial_error_limit=60,
            per_dial_timeout=5,
        )
        ready = command.remote.Command(
            f"{name}-ready",
            connection=connection,
            create=render("templates/release/ready.sh.j2", layout=layout),
            triggers=[args.instance_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self),
        )

        def apply(
            part: str, verb: str, archive: Archive, stdin: pulumi.Input[str] | None, after: pulumi.Resource
        ) -> command.remote.Command:
            copy = command.remote.CopyToRemote(
                f"{name}-{part}-archive",
                connection=connection,
                source=pulumi.FileAsset(archive.path),
                remote_path=f"{layout.INCOMING}/{archive.id}.tar.gz",
                triggers=[archive.id, args.instance_id],
                opts=pulumi.ResourceOptions(parent=self, depends_on=[ready]),
            )
            return command.remote.Command(
                f"{name}-{part}-apply",
                connection=connection,
                create=render("templates/release/apply.sh.j2", layout=layout, verb=verb, id=archive.id),
                stdin=stdin,
                triggers=[archive.id, args.instance_id],
                add_previous_output_in_env=False,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[copy, after]),
            )

        host = apply("host", "prepare", args.archives.host, None, ready)
        self.ids = {}
        for site, archive in args.archives.sites.items():
            secrets = {"env": _plain(args.env[site]), "files": _plain(args.files[site])}
            stdin = pulumi.Output.secret(json.dumps(secrets, sort_keys=True))
            done = apply(f"site-{site}", "apply", archive, stdin, host)
            # The id is exported only when the release serves.
            self.ids[site] = done.id.apply(lambda _, id=archive.id: id)
        self.register_outputs({"ids": self.ids})
