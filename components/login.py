"""SSH to a server, from when cloud-init has finished and the services run there.

server ◀─ first session ── host key ──▶ connection ── ready
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command

from components import first_contact, way_in
from contract import paths
from templates import render

# The address answers a little after it is bound, and SSH a little after the boot.
_PATIENCE = {"dial_error_limit": 60, "per_dial_timeout": 5}


@dataclass(frozen=True)
class LoginArgs:
    """How a server is reached.

    address, instance_id: the server's. user_data: those that it was made with. key_name: of the key pair that may log
    in; the server restarts for another one. front: the way to the server that SSH goes through, None for straight on.
    private_key: OpenSSH private key text, or None for the SSH agent. host_key: the server's public host key, if the
    stack's settings have it.
    """

    address: pulumi.Output[str]
    instance_id: pulumi.Input[str]
    user_data: pulumi.Output[str | None]
    key_name: pulumi.Input[str]
    front: "Login | None"
    private_key: str | None
    host_key: str | None


class Login(pulumi.ComponentResource):
    """ready: waits for cloud-init and the services. connection, instance_id: for commands on the server.

    host_key: the public one, which every connection but the first one checks. address: the server's.
    """

    connection: command.remote.ConnectionArgs
    address: pulumi.Output[str]
    host_key: pulumi.Input[str]
    instance_id: pulumi.Input[str]
    ready: command.remote.Command

    def __init__(self, name: str, args: LoginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wsgi:login:Login", name, None, opts)
        self.address, self.instance_id = args.address, args.instance_id
        self.host_key = args.host_key or self._first_session(name, args)
        self.connection = _connection(args, self.host_key)
        self.ready = command.remote.Command(
            f"{name}-ready",
            connection=self.connection,
            create=render("templates/release/ready.sh.j2", paths=paths),
            triggers=[args.instance_id, args.key_name],
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})

    def _first_session(self, name: str, args: LoginArgs) -> pulumi.Output[str]:
        """Return the host key, from a session that runs once in a server's life, without knowing the key."""
        asked = command.remote.Command(
            f"{name}-host-key",
            connection=_connection(args, None),
            create=first_contact.command(),
            triggers=[args.instance_id],
            logging=command.remote.Logging.NONE,
            add_previous_output_in_env=False,
            # A change of anything else would run it again, and accept another key.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["connection", "create"]),
        )
        is_first = args.front is None

        def checked(known: list[Any]) -> str:
            printed, user_data, address, urn = known
            try:
                key = first_contact.host_key(printed or "", user_data, address, urn)
                if is_first:
                    way_in.check_host_key(address, key, first_contact.repeated(urn))
            except pulumi.RunError:
                # Pulumi reports the error once. For every resource that waits for the key, asyncio would repeat it.
                asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
                raise
            return key

        key = pulumi.Output.all(asked.stdout, args.user_data, args.address, asked.urn).apply(checked)
        # It counts as secret because user data are, but a host key is public.
        return pulumi.Output.unsecret(key)


def _connection(args: LoginArgs, host_key: pulumi.Input[str] | None) -> command.remote.ConnectionArgs:
    """Return how commands reach the server. host_key: the server's; None accepts any."""
    key = pulumi.Output.secret(args.private_key) if args.private_key else None
    front = args.front and command.remote.ProxyConnectionArgs(
        host=args.front.address, user="root", private_key=key, host_key=args.front.host_key, **_PATIENCE
    )
    return command.remote.ConnectionArgs(
        host=args.address, user="root", private_key=key, host_key=host_key, proxy=front, **_PATIENCE
    )
