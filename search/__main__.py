"""`python -m search` is `resnet-tune`."""

from search.cli import main

main()
