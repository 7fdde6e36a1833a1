"""Run the command line as ``python -m bayesunmix``."""

from bayesunmix.cli import main

if __name__ == "__main__":
    main()
