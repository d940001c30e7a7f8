"""Rehearsal: the stand-in cloud.

    ./rehearse up ─▶ cli ─▶ program (__main__.py) ─▶ monitor ─▶ engine ─▶ resources ─▶ lxd
                                                                  │
                                                     compare ◀────┴────▶ state (in LXD itself)

The same Pulumi program that deploys to Alibaba Cloud registers its resources with
`monitor.RehearsalMonitor`, whose resources are LXD objects on this machine.
"""
