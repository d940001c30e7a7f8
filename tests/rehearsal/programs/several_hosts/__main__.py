"""Several machines on one switch, each kind in a security group of its own.

world ─▶ front-1, front-2 ─8000,22─▶ app ─5432─▶ db (data disk)
                 └───────────22─────────────────▶
"""

import pulumi
import pulumi_alicloud as alicloud
import pulumi_command as command

config = pulumi.Config()
zone = "cn-hangzhou-i"
vpc = alicloud.vpc.Network("vpc", cidr_block="10.78.0.0/20")
switch = alicloud.vpc.Switch("switch", vpc_id=vpc.id, zone_id=zone, cidr_block="10.78.0.0/20")
key_pair = alicloud.ecs.EcsKeyPair(
    "key", key_pair_name="several-hosts", public_key=config.require_object("access")["public_key"]
)
groups = {name: alicloud.ecs.SecurityGroup(f"{name}-group", vpc_id=vpc.id) for name in ("front", "app", "db")}


def allow(group: str, port: int, source: str) -> None:
    """Let a group, or the world, reach a port of a group."""
    where = {"cidr_ip": "0.0.0.0/0"} if source == "world" else {"source_security_group_id": groups[source].id}
    alicloud.ecs.SecurityGroupRule(
        f"{group}-{port}-from-{source}",
        security_group_id=groups[group].id,
        type="ingress",
        ip_protocol="tcp",
        port_range=f"{port}/{port}",
        nic_type="intranet",
        **where,
    )


allow("front", 80, "world")
allow("app", 22, "front")
allow("db", 22, "front")
allow("db", 5432, "app")
if config.require_bool("open"):
    allow("app", 8000, "front")


def machine(name: str, group: str, trigger: int = 1) -> alicloud.ecs.Instance:
    """A machine without a public address."""
    return alicloud.ecs.Instance(
        name,
        instance_type="ecs.t6-c1m1.large",
        image_id="debian_12",
        user_data="#cloud-config\n",
        vswitch_id=switch.id,
        security_groups=[groups[group].id],
        key_name=key_pair.key_pair_name,
        opts=pulumi.ResourceOptions(replacement_trigger=trigger),
    )


machines = {
    "front": machine("front", "front"),
    "app": machine("app", "app"),
    "db": machine("db", "db", config.require_int("generation")),
}
app, db = machines["app"], machines["db"]

addresses = {}
for name in ("front", "db"):
    address = alicloud.ecs.EipAddress(f"{name}-address")
    bound = alicloud.ecs.EipAssociation(
        f"{name}-association",
        allocation_id=address.id,
        instance_id=machines[name].id,
        opts=pulumi.ResourceOptions(delete_before_replace=True),
    )
    addresses[name] = pulumi.Output.all(address.ip_address, bound.id).apply(lambda known: known[0])

disk = alicloud.ecs.EcsDisk(
    "disk",
    disk_name="data",
    zone_id=zone,
    size=20,
    category="cloud_essd",
    payment_type="PayAsYouGo",
    tags={"project": "several-hosts"},
    opts=pulumi.ResourceOptions(protect=True),
)
attachment = alicloud.ecs.EcsDiskAttachment(
    "attachment",
    disk_id=disk.id,
    instance_id=db.id,
    opts=pulumi.ResourceOptions(delete_before_replace=True),
)


def through(host: pulumi.Input[str]) -> command.remote.ConnectionArgs:
    """SSH by way of the front."""
    proxy = command.remote.ProxyConnectionArgs(
        host=addresses["front"], user="root", dial_error_limit=60, per_dial_timeout=5
    )
    return command.remote.ConnectionArgs(host=host, user="root", dial_error_limit=60, per_dial_timeout=5, proxy=proxy)


copied = command.remote.CopyToRemote(
    "copied",
    connection=through(app.private_ip),
    source=pulumi.StringAsset("copied\n"),
    remote_path="/root/copied",
    triggers=[app.id],
)
seen = command.remote.Command(
    "seen",
    connection=through(app.private_ip),
    create="cat /root/copied - && echo $SSH_CONNECTION",
    stdin=pulumi.Output.secret("correct-horse-battery-staple\n"),
    triggers=[app.id],
    opts=pulumi.ResourceOptions(depends_on=[copied]),
)
if config.require_bool("straight"):
    straight = command.remote.ConnectionArgs(host=app.private_ip, user="root")
    command.remote.Command("straight", connection=straight, create="true")
written = command.remote.Command(
    "written",
    connection=through(db.private_ip),
    # The size of what another machine may be writing, twice.
    create="cd /srv/data && hostname >>machines && cat machines && touch busy && wc -c <busy && sleep 1 && wc -c <busy",
    triggers=[db.id],
    opts=pulumi.ResourceOptions(depends_on=[attachment]),
)

pulumi.export("machines", {name: one.id for name, one in machines.items()})
pulumi.export("private", {name: one.private_ip for name, one in machines.items()})
pulumi.export("primary", {name: one.primary_ip_address for name, one in machines.items()})
pulumi.export("public", addresses)
pulumi.export("seen", seen.stdout)
pulumi.export("written", written.stdout)
