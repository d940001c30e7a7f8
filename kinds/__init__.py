"""One room a technology: its settings, its rules, its files, its pins.

    app_servers/       uwsgi, gunicorn, …       what runs the application
    process_managers/  supervisor, systemd, …   what starts it and starts it again
    systems/           centos7, debian12, …     what an operating system has, and under which names
    databases/         mysql                    a machine of its own for the application's data

service.py is what a database and Redis (redis.py) are alike in: each has a server that serves the applications alone.

Each folder has a registry in its __init__.py and the interface of its rooms in base.py. A room knows no other room, and
nothing of the stack beside what the interface hands to it.
"""
