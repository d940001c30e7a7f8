"""The rehearsal: a stand-in for the cloud on this host, in three wings.

    ./rehearse up ─▶ cli ─▶ commands ─▶ engine ─▶ program (__main__.py) ─▶ monitor ─▶ engine
                               │                                                        │
                               └────────▶ cloud (LXD on this host) ◀── resource types ──┘

    engine    what Pulumi's engine does, for any cloud
    cloud     Alibaba Cloud's resource types as LXD objects, and what they need of this host
    commands  the commands of ./rehearse

commands may import cloud and engine, cloud may import engine, and engine imports neither. The program is the one that
`pulumi up` runs; it registers its resources with `engine.monitor.RehearsalMonitor`.
"""
