"""``python -m packager``: see ``packager.cli``."""

import sys

from packager.stopping import Stop

if __name__ == "__main__":
    stop = Stop()
    stop.listen()  # before the next import, which takes a while on a small pod

    from packager.cli import main

    sys.exit(main(sys.argv[1:], stop))
