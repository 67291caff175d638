"""`python -m kerasllm`: the command line where the console script is not on the PATH."""

from kerasllm.cli.main import main

main()
