"""``python -m voxloom``: the command line."""

from voxloom.cli import main

if __name__ == "__main__":
    main()
