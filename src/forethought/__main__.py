"""`python -m forethought` is `forethought`."""

from forethought.cli.main import main

main()
