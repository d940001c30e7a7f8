"""Who may mount a file system of NAS, and where: with its rule, a machine gets the volume.

In the cloud the machine mounts the file system itself, by NFS, which a container may not do.
"""

from collections.abc import Mapping
from typing import Any

from contract import paths
from rehearsal.cloud import tokens, volume
from rehearsal.cloud.context import CloudContext
from rehearsal.engine.compare import Schema
from rehearsal.engine.errors import RehearsalError
from rehearsal.engine.resource import Resource, only
from rehearsal.engine.state import Record


class NasAccessGroup(Resource[CloudContext]):
    schema = Schema(replaces=frozenset({"accessGroupName", "accessGroupType"}), updates={"description": ""})

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['accessGroupName']}:standard"

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "accessGroupType", "Vpc")


class NasMountTarget(Resource[CloudContext]):
    schema = Schema(
        words={"vswitchId": "a new network"},
        replaces=frozenset({"fileSystemId", "vswitchId"}),
        updates={"accessGroupName": ""},
    )

    def id(self, name: str, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['fileSystemId']}:{self._domain(inputs)}"

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"mountTargetDomain": self._domain(inputs), "status": "Active"}

    def _domain(self, inputs: Mapping[str, Any]) -> str:
        return f"{inputs['fileSystemId']}-{inputs['vswitchId']}.rehearsal.nas.aliyuncs.com"


class NasAccessRule(Resource[CloudContext]):
    """The file system of the group's mount target, mounted at paths.DATA on the machine that has the rule's address.

    A rule for a whole switch mounts nothing: the machines whose user data name the mount target have the file system.
    """

    prefix = "rule-"
    schema = Schema(
        words={"sourceCidrIp": "a new server"},
        replaces=frozenset({"accessGroupName"}),
        updates=dict.fromkeys(("sourceCidrIp", "rwAccessType", "userAccessType", "priority"), ""),
    )

    def check(self, inputs: Mapping[str, Any]) -> None:
        only(inputs, "rwAccessType", "RDWR")
        only(inputs, "userAccessType", "no_squash")

    def create(self, context: CloudContext, record: Record, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if "/" in inputs["sourceCidrIp"]:
            return self._of_switch(context, inputs["sourceCidrIp"])
        file_system, machine = self._ends(context, inputs)
        if not file_system or not machine:
            raise RehearsalError(
                f"{inputs['sourceCidrIp']} is no machine's address, or no mount target of this stack has the access "
                f"group {inputs['accessGroupName']}"
            )
        if not volume.is_attached(context, file_system, machine):
            volume.attach(context, file_system, machine)
        context.say(f"the shared data are mounted at {paths.DATA} of {machine}; NFS is not rehearsed")
        return {"rehearsalFileSystem": file_system, "rehearsalMachine": machine}

    def _of_switch(self, context: CloudContext, cidr: str) -> dict[str, Any]:
        if not any(switch.inputs["cidrBlock"] == cidr for switch in context.state.records(tokens.SWITCH)):
            raise RehearsalError(f"{cidr} is no switch's block; allowed: that of a switch, or a machine's address")
        return {}

    def update(
        self, context: CloudContext, record: Record, inputs: Mapping[str, Any], keys: tuple[str, ...]
    ) -> dict[str, Any]:
        if "sourceCidrIp" in keys:
            raise RehearsalError("changing source_cidr_ip in place is not rehearsed; use replace_on_changes")
        return record.outputs

    def exists(self, context: CloudContext, record: Record) -> bool:
        found = record.outputs
        if "/" in record.inputs["sourceCidrIp"]:
            return True
        return volume.is_attached(context, found["rehearsalFileSystem"], found["rehearsalMachine"])

    def delete(self, context: CloudContext, record: Record) -> None:
        if "/" in record.inputs["sourceCidrIp"]:
            return
        # A run that was killed while it made the rule has left no outputs.
        made = (record.outputs.get("rehearsalFileSystem"), record.outputs.get("rehearsalMachine"))
        file_system, machine = made if all(made) else self._ends(context, record.inputs)
        if file_system and machine:
            volume.detach(context, file_system, machine)

    def _ends(self, context: CloudContext, inputs: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Ids of the file system and of the machine, None for one that is not there."""
        targets = context.state.records(tokens.NAS_MOUNT_TARGET)
        file_systems = [
            target.inputs["fileSystemId"]
            for target in targets
            if target.inputs["accessGroupName"] == inputs["accessGroupName"] and target.status == "done"
        ]
        machines = [
            machine.id
            for machine in context.state.records(tokens.INSTANCE)
            if machine.outputs.get("primaryIpAddress") == inputs["sourceCidrIp"]
        ]
        return file_systems[-1] if file_systems else None, machines[-1] if machines else None
