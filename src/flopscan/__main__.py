"""`python -m flopscan` is the command `flopscan`."""

import sys

from flopscan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
