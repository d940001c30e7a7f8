"""Makes the pages that describe every setting: docs/settings.md and docs/settings.zh-CN.md. `make docs` writes them.

models (keys, defaults, descriptions, refusals) ─▶ rows.py, allowed.py ─┐
docs/settings.zh-CN.yaml ───────────────────────────────────────────────┼─▶ pages.py ─▶ docs/settings*.md
the program run dry with one value changed ─────▶ effects.py ───────────┘   (what a change does)

samples.py has an ordinary value of each setting, beside.py what else must be set for a change to do something.
"""

from pathlib import Path

PROJECT = Path(__file__).parent.parent
