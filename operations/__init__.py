"""The day-to-day commands, for a stack that is rehearsed here and for one that is deployed.

A command works on a Stack, whose machines it reaches over SSH. `rehearsal/commands/machines.py` makes the Stack of a
rehearsal from the rehearsal's records, and deployed.py makes the Stack of a deployment from the program's outputs.
"""
