"""A release on a server: cloud-init awaited, the archive copied, the release tool run over SSH.

wait ─▶ copy ─▶ prepare what the sites share ─▶ apply each site
                private keys on standard input   environment on standard input
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
from pydantic import SecretStr

from components.archive import Archive, Archives
from serving import layout
from serving.templates import render
from settings.certificates import Given


@dataclass(frozen=True)
class ReleaseArgs:
    """What is released, and to which server.

    archives: what the sites share, released before them, and theirs. env: site's name → the environment of its
    application, secret. files: site's name → file name → text beside its configs, secret. certificates: domain →
    its given certificate and private key. address, instance_id: of the server; a new instance gets all of it
    again. proxy: address of the server that SSH goes through, None for straight on. hosts: name → private address
    of the other machines that it must know. after: what must be there before, such as other releases. password:
    of the database, on the machine that has it. private_key: OpenSSH private key text, or None for the SSH agent.
    host_key: the public host key when it is known, of the server that the world reaches.
    """

    archives: Archives
    env: Mapping[str, Mapping[str, SecretStr]]
    files: Mapping[str, Mapping[str, SecretStr]]
    certificates: Mapping[str, Given]
    address: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    proxy: pulumi.Input[str] | None
    hosts: Mapping[str, pulumi.Input[str]]
    after: Sequence[pulumi.Resource]
    password: SecretStr | None
    private_key: str | None
    host_key: str | None


def _plain(secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in secrets.items()}


class Release(pulumi.ComponentResource):
    """Each part is applied when its archive, its environment or the server changes, and no other with it."""

    ids: dict[str, pulumi.Output[str]]

    def __init__(self, name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:release:Release", name, None, opts)
        # The address answers a little after it is bound, and SSH a little after the boot.
        patience = {"dial_error_limit": 60, "per_dial_timeout": 5}
        key = pulumi.Output.secret(args.private_key) if args.private_key else None
        connection = command.remote.ConnectionArgs(
            host=args.address,
            user="root",
            private_key=key,
            host_key=None if args.proxy else args.host_key,
            proxy=command.remote.ProxyConnectionArgs(
                host=args.proxy, user="root", private_key=key, host_key=args.host_key, **patience
            )
            if args.proxy
            else None,
            **patience,
        )
        addresses = list(args.hosts.values())
        ready = command.remote.Command(
            f"{name}-ready",
            connection=connection,
            create=render("templates/release/ready.sh.j2", layout=layout),
            triggers=[args.instance_id],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self),
        )

        def apply(
            part: str, verb: str, archive: Archive, stdin: pulumi.Input[str], after: Sequence[pulumi.Resource]
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
                triggers=[archive.id, args.instance_id, *(addresses if verb == "prepare" else ())],
                add_previous_output_in_env=False,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[copy, *after]),
            )

        pairs = {
            domain: {"certificate": one.certificate, "private_key": one.private_key.get_secret_value()}
            for domain, one in args.certificates.items()
        }
        told = pulumi.Output.json_dumps({"hosts": dict(args.hosts), "tls": pairs}, sort_keys=True)
        verb = "prepare"
        if args.password is not None:
            verb, told = "database", pulumi.Output.json_dumps({"database": _plain({"password": args.password})})
        host = apply("host", verb, args.archives.host, pulumi.Output.secret(told), [ready, *args.after])
        self.ids = {}
        for site, archive in args.archives.sites.items():
            secrets = {"env": _plain(args.env[site]), "files": _plain(args.files[site])}
            stdin = pulumi.Output.secret(json.dumps(secrets, sort_keys=True))
            done = apply(f"site-{site}", "apply", archive, stdin, [host])
            # The id is exported only when the release serves.
            self.ids[site] = done.id.apply(lambda _, id=archive.id: id)
        self.register_outputs({"ids": self.ids})
