"""`python -m sandbox.benchling`."""

import sys

from sandbox.benchling.cli import main

sys.exit(main())
