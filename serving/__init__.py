"""Settings → serving plan: the text of everything that a server gets. Pure functions.

Settings ─▶ plan.py ─▶ ServingPlan ─▶ bootstrap.py ─▶ user data
              ▲             └───────▶ components/archive.py ─▶ release
  nginx, uwsgi, supervisor (one module a part)
"""

from serving.plan import Machine, ServingPlan, SitePlan, host_files, machines, make_plan, release_files

__all__ = ["Machine", "ServingPlan", "SitePlan", "host_files", "machines", "make_plan", "release_files"]
