"""A release on a server: the archive copied, the release tool run over SSH.

login ─▶ copy ─▶ prepare what the sites share ─▶ apply each site
                 private keys on standard input   environment on standard input
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
from pydantic import SecretStr

from components.archive import Archive, Archives
from components.login import Login
from contract import paths
from contract.documents import TOOL_FOLDER
from contract.resources import HOST_PART, apply_resource, archive_resource, site_part
from kinds.service import Service
from settings.certificates import Given

# machine/drift.py says so of each file.
_WARNING = re.compile(r"^wsgi-ecs: warning: (.+)", re.MULTILINE)
# machine/database_tls.py prints it.
_CERTIFICATE = re.compile(r"^wsgi-ecs: certificate of the database: (\S+)$", re.MULTILINE)
_EDITED = re.compile(r"^wsgi-ecs: (/.+ was edited by hand \(\w+\))", re.MULTILINE)


@dataclass(frozen=True)
class ReleaseArgs:
    """What is released, and to which server.

    archives: what the sites share, released before them, and theirs. origins: site's name → where its application comes
    from. follows: another machine
    has run the commands of the sites. instance_type: of the server. env: site's name →
    the environment of its application, secret. pip: site's name → its indexes and logins,
    secret. files: site's name → file name → text beside its configs, secret.
    fronts: site's name → id of its release on the server in front of this app server, none on any other server. pins:
    site's name → id of the kept release that serves in place of its archive.
    certificates: domain → its given certificate and private key. login: to the server; a new instance gets all of it
    again. address: the stack's in the world. hosts: name → private address of the other machines that it must know.
    after: what must be there before, such as other releases. service: of the machine that has it alone. authority:
    certificate of the database that the applications here reach over TLS. found: what only the cloud knows of the
    applications' environment. database: how the release tool logs in to a managed database, None elsewhere. store:
    address of the file system that machines share, None elsewhere.
    """

    archives: Archives
    origins: Mapping[str, Mapping[str, str]]
    follows: bool
    instance_type: str
    env: Mapping[str, Mapping[str, SecretStr]]
    files: Mapping[str, Mapping[str, SecretStr]]
    pip: Mapping[str, Mapping[str, SecretStr]]
    fronts: Mapping[str, str]
    pins: Mapping[str, str]
    certificates: Mapping[str, Given]
    login: Login
    address: pulumi.Input[str]
    hosts: Mapping[str, pulumi.Input[str]]
    after: Sequence[pulumi.Resource]
    service: Service | None
    authority: pulumi.Input[str] | None = None
    found: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    database: Mapping[str, pulumi.Input[str]] | None = None
    store: pulumi.Input[str] | None = None


def run_tool(verb: str, archive: str) -> str:
    """Command that runs machine/run.sh of the archive of this id on a server.

    Pulumi quotes the whole command before what a failed one has said, so it is short.
    """
    path = f"{paths.incoming()}/{archive}.tar.gz"
    lost = "echo 'wsgi-ecs: next: raise release.generation, which sends the archive again' >&2; exit 1"
    script = f"s=$(tar -xzOf {path} --occurrence=1 {TOOL_FOLDER}run.sh)"
    return f'{script} || {{ {lost}; }}; exec sh -c "$s" wsgi-ecs {verb} {path}'


def edited(printed: str) -> list[str]:
    """The lines of what the release tool prints that name a file which somebody has edited by hand."""
    return _EDITED.findall(printed)


def said(
    commands: Sequence[command.remote.Command],
) -> tuple[pulumi.Output[list[str]], pulumi.Output[list[str]]]:
    """Return what the release tool has printed of files that were edited by hand, and its warnings."""
    # A command's output counts as secret because its input is secret, but these lines contain only paths.
    printed = pulumi.Output.all(*(pulumi.Output.unsecret(each.stdout) for each in commands)).apply(
        lambda texts: "\n".join(filter(None, texts))
    )
    return printed.apply(edited), printed.apply(_WARNING.findall)


def certificate(printed: str | None) -> str:
    """The database's certificate in what the release tool prints, in Base64; "" without one."""
    found = _CERTIFICATE.search(printed or "")
    return found[1] if found else ""


def service_secrets(service: Service) -> pulumi.Output[str]:
    """Return what the release tool reads on the service's server, as a secret."""
    return pulumi.Output.secret(json.dumps({service.verb: _plain(service.secrets)}))


def _plain(secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in secrets.items()}


def host_parts(args: ReleaseArgs) -> dict[str, pulumi.Input[Any]]:
    """Return what the release tool reads on standard input beside the archive of what the sites share."""
    pairs = {
        domain: {"certificate": one.certificate, "private_key": one.private_key.get_secret_value()}
        for domain, one in args.certificates.items()
    }
    trusted = {"authority": args.authority} if args.authority else {}
    managed = {"database": dict(args.database)} if args.database else {}
    store = {"store": args.store} if args.store else {}
    return {"hosts": dict(args.hosts), "tls": pairs, **trusted, **managed, **store}


def site_parts(args: ReleaseArgs, site: str) -> dict[str, pulumi.Input[Any]]:
    """Return what the release tool reads on standard input beside a site's archive, without empty parts."""
    front = {"front": args.fronts[site]} if site in args.fronts else {}
    optional = {
        "origin": {**args.origins.get(site, {}), **front},
        "pin": args.pins.get(site),
        "pip": _plain(args.pip[site]),
    }
    return {
        "env": {**_plain(args.env[site]), **args.found},
        "files": _plain(args.files[site]),
        "address": args.address,
        **{name: part for name, part in optional.items() if part},
    }


class Release(pulumi.ComponentResource):
    """Each part is applied when its archive, its environment or the server changes, and no other with it.

    An app server is told the id of the release on the server in front of it, so that one id names both. Another id
    there is a run here that changes nothing.

    A site's programs are as many as the server has CPUs, so a changed instance type applies it, too.

    host_id: of the archive of what the sites share. certificate: of the database of this server, "" without one.
    edited_by_hand: the files that were others than released before,
    when it was applied last, a line each. warnings: lines about its commands.
    """

    ids: dict[str, pulumi.Output[str]]
    host_id: str
    certificate: pulumi.Output[str]
    edited_by_hand: pulumi.Output[list[str]]
    warnings: pulumi.Output[list[str]]

    def __init__(self, name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:release:Release", name, None, opts)
        login, addresses = args.login, list(args.hosts.values())

        def apply(
            part: str, verb: str, archive: Archive, stdin: pulumi.Input[str], after: Sequence[pulumi.Resource]
        ) -> command.remote.Command:
            copy = command.remote.CopyToRemote(
                archive_resource(name, part),
                connection=login.connection,
                source=pulumi.FileAsset(archive.path),
                remote_path=f"{paths.incoming()}/{archive.id}.tar.gz",
                triggers=[archive.id, login.instance_id],
                opts=pulumi.ResourceOptions(parent=self, depends_on=[login.ready]),
            )
            follows = verb == "apply" and args.follows
            own: dict[str, Sequence[pulumi.Input[str]]] = {"prepare": addresses, "apply": [args.instance_type]}
            return command.remote.Command(
                apply_resource(name, part),
                connection=login.connection,
                create=run_tool("follow" if follows else verb, archive.id),
                stdin=stdin,
                triggers=[archive.id, login.instance_id, *own.get(verb, ())],
                add_previous_output_in_env=False,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[copy, *after]),
            )

        verb, stdin = "prepare", pulumi.Output.json_dumps(host_parts(args), sort_keys=True)
        if args.service:
            verb, stdin = args.service.verb, service_secrets(args.service)
        host = apply(HOST_PART, verb, args.archives.host, pulumi.Output.secret(stdin), [login.ready, *args.after])
        self.ids, self.host_id = {}, args.archives.host.id
        # A command's output counts as secret because its input is secret; a certificate is none.
        self.certificate = pulumi.Output.unsecret(host.stdout).apply(certificate)
        parts = [host]
        for site, archive in args.archives.sites.items():
            stdin = pulumi.Output.secret(pulumi.Output.json_dumps(site_parts(args, site), sort_keys=True))
            done = apply(site_part(site), "apply", archive, stdin, [host])
            # The id is exported only when the release serves.
            served = args.pins.get(site, archive.id)
            self.ids[site] = done.id.apply(lambda _, id=served: id)
            parts.append(done)
        self.edited_by_hand, self.warnings = said(parts)
        self.register_outputs({"ids": self.ids, "edited_by_hand": self.edited_by_hand})
