"""Options that several commands share."""

from __future__ import annotations

import click

implementation_argument = click.argument("impl", default="reference")
implementation_option = click.option("--impl", default="reference", show_default=True, help="Adapter, as for `check`.")
python_option = click.option("--python", metavar="PATH", help="Interpreter that has the library under test.")
