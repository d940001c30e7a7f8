"""What the program and the release tool have agreed on: paths on a server, JSON documents, placeholders, names, limits.

    serving, components ──write──▶ release.json, host.json ──read──▶ machine/
    machine/            ──write──▶ state.json of a slot, of what the sites share, of a database ──read──▶ machine/
    rehearsal           ──reads──▶ names of resources, paths, limits

This package travels with every release beside the tool, so it is Python 3.6, standard library only.
"""
