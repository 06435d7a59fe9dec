"""`python -m bot`: the command line."""

import sys

try:
    # Its own imports take half a second, in which Ctrl+C may well come.
    from bot.cli.main import main

    code = main()
except KeyboardInterrupt:
    code = 130

if __name__ == "__main__":
    sys.exit(code)
