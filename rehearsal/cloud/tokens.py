"""Type tokens of the rehearsed resource types, as the providers name them; and what is unavailable without some."""

VPC = "alicloud:vpc/network:Network"
SWITCH = "alicloud:vpc/switch:Switch"
SECURITY_GROUP = "alicloud:ecs/securityGroup:SecurityGroup"
SECURITY_GROUP_RULE = "alicloud:ecs/securityGroupRule:SecurityGroupRule"
KEY_PAIR = "alicloud:ecs/ecsKeyPair:EcsKeyPair"
INSTANCE = "alicloud:ecs/instance:Instance"
EIP_ADDRESS = "alicloud:ecs/eipAddress:EipAddress"
EIP_ASSOCIATION = "alicloud:ecs/eipAssociation:EipAssociation"
DISK = "alicloud:ecs/ecsDisk:EcsDisk"
DISK_ATTACHMENT = "alicloud:ecs/ecsDiskAttachment:EcsDiskAttachment"
COMMAND = "command:remote:Command"
COPY_TO_REMOTE = "command:remote:CopyToRemote"

# Values of Schema.away.
SITE = "the site"
DATABASE = "the database"
