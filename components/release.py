"""A release on a server: cloud-init awaited, the archive copied, the release tool run over SSH.

wait ─▶ copy ─▶ apply (secrets on standard input)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_command as command
from pydantic import SecretStr

from components.archive import Archive
from serving import layout
from serving.templates import render


@dataclass(frozen=True)
class ReleaseArgs:
    """What is released, and to which server.

    address, instance_id: of the server; a new instance gets the release again. env: the application's
    environment, secret. private_key: OpenSSH private key text, or None for the SSH agent.
    host_key: the server's public host key when it is known.
    """

    archive: Archive
    address: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    env: Mapping[str, SecretStr]
    private_key: str | None
    host_key: str | None


class Release(pulumi.ComponentResource):
    """Applied when the archive, the environment or the server changes."""

    id: pulumi.Output[str]

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
        remote_path = f"{layout.INCOMING}/{args.archive.id}.tar.gz"
        ready = command.remote.Command(
            f"{name}-ready",
            connection=connection,
            create=render("templates/release/ready.sh.j2", layout=layout),
            triggers=[args.instance_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self),
        )
        copy = command.remote.CopyToRemote(
            f"{name}-archive",
            connection=connection,
            source=pulumi.FileAsset(args.archive.path),
            remote_path=remote_path,
            triggers=[args.archive.id, args.instance_id],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[ready]),
        )
        env = {name: value.get_secret_value() for name, value in args.env.items()}
        apply = command.remote.Command(
            f"{name}-apply",
            connection=connection,
            create=render("templates/release/apply.sh.j2", layout=layout, id=args.archive.id),
            stdin=pulumi.Output.secret(json.dumps({"env": env}, sort_keys=True)),
            triggers=[args.archive.id, args.instance_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[copy]),
        )
        # The id is exported only when the release serves.
        self.id = apply.id.apply(lambda _: args.archive.id)
        self.register_outputs({"id": self.id})
