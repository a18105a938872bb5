"""`python -m app` is `turnout`."""

from app.cli import main

main()
