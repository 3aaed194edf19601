"""`python -m lossbench`."""

from lossbench.cli.main import main

if __name__ == "__main__":
    main()
