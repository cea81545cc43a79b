"""`python -m dicomnode`."""

from dicomnode.cli.main import main

main()
