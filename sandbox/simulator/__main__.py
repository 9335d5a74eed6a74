"""`python -m sandbox.simulator`."""

import sys

from sandbox.simulator.cli import main

sys.exit(main())
