"""`python -m sungrow_lib.cli` is the `sungrow` command."""

import sys

from sungrow_lib.cli import main

sys.exit(main())
