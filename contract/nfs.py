"""How machines mount a file system of NAS: NFS 4.0 with a hard mount, so that nothing is lost while it is away."""

# The first six are those of NAS: https://www.alibabacloud.com/help/en/nas/user-guide/mount-an-nfs-file-system-on-a-linux-ecs-instance
# lookupcache: a file that another machine has just made is found, even if this one has looked for it before.
OPTIONS = (
    "vers=4,minorversion=0,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,"
    "lookupcache=positive,nosuid,nodev,retry=0"
)
