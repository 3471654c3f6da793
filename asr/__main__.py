"""`python -m asr` is the command `asr`."""

from __future__ import annotations

import sys

from asr.cli import main

sys.exit(main())
