"""`python -m lmtasks` is the command `lmtasks`."""

import sys

from lmtasks.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
