"""The resource types and provider functions that are rehearsed, and no others."""

from rehearsal.cloud import tokens
from rehearsal.cloud.context import CloudContext
from rehearsal.cloud.instance_types import answer
from rehearsal.cloud.resources.alb_listener import Listener, ListenerCertificate, ListenerRule
from rehearsal.cloud.resources.alb_load_balancer import LoadBalancer
from rehearsal.cloud.resources.alb_server_group import ServerGroup
from rehearsal.cloud.resources.cms import Alarm, AlarmContact, AlarmContactGroup, SiteMonitor
from rehearsal.cloud.resources.copy_to_remote import CopyToRemote
from rehearsal.cloud.resources.disk import Disk
from rehearsal.cloud.resources.disk_attachment import DiskAttachment
from rehearsal.cloud.resources.eip_address import EipAddress
from rehearsal.cloud.resources.eip_association import EipAssociation
from rehearsal.cloud.resources.ess import (
    InstanceRefresh,
    LifecycleHook,
    ScalingConfiguration,
    ScalingGroup,
    ScalingRule,
)
from rehearsal.cloud.resources.instance import Instance
from rehearsal.cloud.resources.ipv4_cidr_block import Ipv4CidrBlock
from rehearsal.cloud.resources.key_pair import KeyPair
from rehearsal.cloud.resources.nas_access import NasAccessGroup, NasAccessRule, NasMountTarget
from rehearsal.cloud.resources.nas_file_system import NasFileSystem
from rehearsal.cloud.resources.rds_backup_policy import RdsBackupPolicy
from rehearsal.cloud.resources.rds_contents import RdsAccount, RdsAccountPrivilege, RdsDatabase
from rehearsal.cloud.resources.rds_instance import RdsInstance
from rehearsal.cloud.resources.redis_instance import RedisAccount, RedisInstance
from rehearsal.cloud.resources.remote_command import RemoteCommand
from rehearsal.cloud.resources.security_group import SecurityGroup
from rehearsal.cloud.resources.security_group_rule import SecurityGroupRule
from rehearsal.cloud.resources.service_certificate import ServiceCertificate
from rehearsal.cloud.resources.switch import Switch
from rehearsal.cloud.resources.vpc import Vpc
from rehearsal.engine.resource import Provider, Resource

TYPES: dict[str, Resource[CloudContext]] = {
    tokens.VPC: Vpc(),
    tokens.SWITCH: Switch(),
    tokens.SECURITY_GROUP: SecurityGroup(),
    tokens.SECURITY_GROUP_RULE: SecurityGroupRule(),
    tokens.KEY_PAIR: KeyPair(),
    tokens.INSTANCE: Instance(),
    tokens.EIP_ADDRESS: EipAddress(),
    tokens.EIP_ASSOCIATION: EipAssociation(),
    tokens.DISK: Disk(),
    tokens.DISK_ATTACHMENT: DiskAttachment(),
    tokens.IPV4_CIDR_BLOCK: Ipv4CidrBlock(),
    tokens.RDS_INSTANCE: RdsInstance(),
    tokens.RDS_DATABASE: RdsDatabase(),
    tokens.RDS_ACCOUNT: RdsAccount(),
    tokens.RDS_ACCOUNT_PRIVILEGE: RdsAccountPrivilege(),
    tokens.RDS_BACKUP_POLICY: RdsBackupPolicy(),
    tokens.REDIS_INSTANCE: RedisInstance(),
    tokens.REDIS_ACCOUNT: RedisAccount(),
    tokens.LOAD_BALANCER: LoadBalancer(),
    tokens.SERVER_GROUP: ServerGroup(),
    tokens.LISTENER: Listener(),
    tokens.LISTENER_RULE: ListenerRule(),
    tokens.LISTENER_CERTIFICATE: ListenerCertificate(),
    tokens.SERVICE_CERTIFICATE: ServiceCertificate(),
    tokens.SCALING_GROUP: ScalingGroup(),
    tokens.SCALING_CONFIGURATION: ScalingConfiguration(),
    tokens.SCALING_RULE: ScalingRule(),
    tokens.LIFECYCLE_HOOK: LifecycleHook(),
    tokens.INSTANCE_REFRESH: InstanceRefresh(),
    tokens.NAS_FILE_SYSTEM: NasFileSystem(),
    tokens.NAS_ACCESS_GROUP: NasAccessGroup(),
    tokens.NAS_MOUNT_TARGET: NasMountTarget(),
    tokens.NAS_ACCESS_RULE: NasAccessRule(),
    tokens.ALARM_CONTACT: AlarmContact(),
    tokens.ALARM_CONTACT_GROUP: AlarmContactGroup(),
    tokens.SITE_MONITOR: SiteMonitor(),
    tokens.ALARM: Alarm(),
    tokens.COMMAND: RemoteCommand(),
    tokens.COPY_TO_REMOTE: CopyToRemote(),
}
PROVIDER = Provider(TYPES, answer)
