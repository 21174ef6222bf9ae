"""`python -m soup`, and the `soup` command."""

from soup.cli.root import main

if __name__ == "__main__":
    main()
