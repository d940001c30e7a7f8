"""SSH to a server, from when cloud-init has finished and the services run there.

server ◀─ connection ── ready
"""

from dataclasses import dataclass

import pulumi
import pulumi_command as command

from contract import paths
from templates import render

# The address answers a little after it is bound, and SSH a little after the boot.
_PATIENCE = {"dial_error_limit": 60, "per_dial_timeout": 5}


@dataclass(frozen=True)
class LoginArgs:
    """How a server is reached.

    address, instance_id: the server's. key_name: of the key pair that may log in; the server restarts for another one.
    proxy: address of the server that SSH goes through, None for straight on. private_key: OpenSSH private key text, or
    None for the SSH agent. host_key: the public host key when it is known, of the server that the world reaches.
    """

    address: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    key_name: pulumi.Input[str]
    proxy: pulumi.Input[str] | None
    private_key: str | None
    host_key: str | None


class Login(pulumi.ComponentResource):
    """ready: waits for cloud-init and the services. connection, instance_id: for commands on the server."""

    connection: command.remote.ConnectionArgs
    instance_id: pulumi.Input[str]
    ready: command.remote.Command

    def __init__(self, name: str, args: LoginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:login:Login", name, None, opts)
        key = pulumi.Output.secret(args.private_key) if args.private_key else None
        self.connection = command.remote.ConnectionArgs(
            host=args.address,
            user="root",
            private_key=key,
            host_key=None if args.proxy else args.host_key,
            proxy=command.remote.ProxyConnectionArgs(
                host=args.proxy, user="root", private_key=key, host_key=args.host_key, **_PATIENCE
            )
            if args.proxy
            else None,
            **_PATIENCE,
        )
        self.instance_id = args.instance_id
        self.ready = command.remote.Command(
            f"{name}-ready",
            connection=self.connection,
            create=render("templates/release/ready.sh.j2", paths=paths),
            triggers=[args.instance_id, args.key_name],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
