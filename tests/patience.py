"""How long a test waits for what must come.

Such a deadline is there to end a hang, and measures nothing: no machine, however busy, is to reach it. What
the product promises to do in time is asserted with the figure of the promise instead.
"""

from __future__ import annotations

from typing import Final

PATIENCE_S: Final = 300.0
"""Less than a test may take in all (``timeout`` in ``pyproject.toml``), so that it says what did not come."""
