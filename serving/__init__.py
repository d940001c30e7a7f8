"""Settings → serving plan: the text of everything that a server gets. Pure functions.

StackSettings ─▶ planning.py ─▶ ServingPlan ─▶ bootstrap.py ─▶ user data
                     ▲               └───────▶ archive_files.py ─▶ components/archive.py ─▶ release
   kinds/, nginx, acme, drop_ins, documents
"""

from serving.archive_files import host_files, release_files
from serving.plan import Machine, ServingPlan, SitePlan
from serving.planning import machines, make_plan, members, public_sites

__all__ = [
    "Machine",
    "ServingPlan",
    "SitePlan",
    "host_files",
    "machines",
    "make_plan",
    "members",
    "public_sites",
    "release_files",
]
