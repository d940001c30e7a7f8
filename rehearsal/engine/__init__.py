"""What Pulumi's engine does, for any cloud: it compares what a program registers with a state, executes and records.

    program ─▶ monitor ─▶ engine ─▶ resource types of a provider
                            │
               compare ◀────┴────▶ state ─▶ store

The provider (resource types and functions) and the store are handed in: nothing here knows which cloud is rehearsed,
where the state is kept, or how a run is shown.
"""
