"""`reprise ...`: run a command; Ctrl-C becomes one sentence and an exit status.

Everything else is imported inside, since that takes a second, in which Ctrl-C must be answered as well.
"""

import sys


def main() -> None:
    """Run the command line; REPRISE_TRACEBACK=1 shows the tracebacks of expected errors as well."""
    try:
        from pipeline.cli.errors import run

        run()
    except KeyboardInterrupt:
        print("interrupted: the same command continues from here", file=sys.stderr)
        sys.exit(130)
