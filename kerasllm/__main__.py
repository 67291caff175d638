"""`python -m kerasllm` is `kerasllm`."""

from kerasllm.cli.main import main

main()
