"""Which disks a machine may have."""

from typing import Any

import pytest

from rehearsal.cloud.resources.disk import Disk
from rehearsal.cloud.resources.disk_attachment import DiskAttachment
from rehearsal.engine.errors import RehearsalError

SIZED = {"zoneId": "cn-hangzhou-i", "size": 20}


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"zoneId": "cn-hangzhou-i"}, "size"),
        ({"size": 20}, "zoneId"),
        (SIZED | {"paymentType": "Subscription"}, "paymentType"),
        (SIZED | {"deleteWithInstance": True}, "deleteWithInstance"),
    ],
)
def test_a_disk_that_is_not_rehearsed_is_refused_by_name(inputs: dict[str, Any], named: str) -> None:
    Disk().check(SIZED)
    with pytest.raises(RehearsalError, match=named):
        Disk().check(inputs)


@pytest.mark.parametrize("inputs", [{"bootable": True}, {"deleteWithInstance": True}])
def test_an_attachment_is_of_a_data_disk_that_stays(inputs: dict[str, Any]) -> None:
    DiskAttachment().check({"diskId": "d-1", "instanceId": "i-1"})
    with pytest.raises(RehearsalError, match=next(iter(inputs))):
        DiskAttachment().check(inputs)
