"""A rehearsed Alibaba Cloud on this host: every resource is an object of LXD.

    registry ─▶ resources/ (one module a resource type) ─▶ group_bridge, machine, ssh_connection ─▶ lxd
    host, image, trust, space, firewall: prepare this host and its base image

Programs reach this package through `registry.PROVIDER`, and their state through `store.ProjectStore`.
"""
