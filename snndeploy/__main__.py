"""`python -m snndeploy` is the same as the `snndeploy` command."""

from snndeploy.cli import main

if __name__ == "__main__":
    main()
