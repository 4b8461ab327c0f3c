"""What `python experiments/run.py` finds in place of the package, as Python then looks for it here: how to call it."""

import sys
from pathlib import Path

print(f"error: {sys.argv[0]}: from the project's root, call python -m experiments.{Path(sys.argv[0]).stem}", file=sys.stderr)
sys.exit(2)
