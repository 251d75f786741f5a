"""`python -m usermirrorer` is the command line."""

from usermirrorer.cli import main


main()
