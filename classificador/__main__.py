"""`python -m classificador`: the command line of apps/cli.py."""

from classificador.apps.cli import run

if __name__ == "__main__":
    run()
