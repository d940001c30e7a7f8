"""The images of the cloud, and the base images that a rehearsal boots for them."""

from rehearsal.cloud.images.alinux3 import ALINUX3
from rehearsal.cloud.images.base import Recipe
from rehearsal.cloud.images.centos7 import CENTOS7
from rehearsal.cloud.images.debian12 import DEBIAN12
from rehearsal.cloud.images.debian13 import DEBIAN13

# Operating system → recipe of its base image.
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (CENTOS7, ALINUX3, DEBIAN12, DEBIAN13)}

# The base image in place of those that have no recipe.
SUBSTITUTE = DEBIAN12.name

# Id of a cloud's image → its operating system.
CLOUD_IMAGES = {
    "centos_7_9_x64_20G_alibase_20240628.vhd": "centos7",
    "aliyun_3_x64_20G_alibase_20250117.vhd": "alinux3",
    "debian_12_11_x64_20G_alibase_20250614.vhd": "debian12",
    "debian_13_4_x64_20G_alibase_20260414.vhd": "debian13",
    "ubuntu_22_04_x64_20G_alibase_20250722.vhd": "ubuntu2204",
}

__all__ = ["CLOUD_IMAGES", "RECIPES", "SUBSTITUTE", "Recipe"]
