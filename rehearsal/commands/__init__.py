"""The commands of `./rehearse`, one module a command, and what only they need.

up, preview, destroy, scale, status, logs, ssh, backup, restore, graph, setup; keep, which up starts
 │
 ├▶ stack_file ─▶ overlay, local_archives, authority:  a stack's settings, and what a rehearsal changes in them
 ├▶ foresee ─▶ preview_text, interruptions:            what an update would do, as text
 └▶ show, proof, machines:                             the screen, the site's answer, a stack's machines
"""
