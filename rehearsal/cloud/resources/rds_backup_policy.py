"""The backups that RDS makes, which a rehearsal records and does not make."""

from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.resource import Resource


class RdsBackupPolicy(Resource[CloudContext]):
    schema = Schema(
        replaces=frozenset({"instanceId"}),
        updates=dict.fromkeys(
            (
                "preferredBackupPeriods", "preferredBackupTime", "backupRetentionPeriod", "enableBackupLog",
                "logBackupRetentionPeriod",
            ),
            "",
        ),
    )  # fmt: skip
