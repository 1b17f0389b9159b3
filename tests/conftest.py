"""What holds for every test, however many run side by side."""

from __future__ import annotations

import os

# Rich asks the terminal for its width when it is imported, and beside other tests there is none to ask.
os.environ["COLUMNS"] = "120"
