"""Label images: `python label.py --help`."""

from alps.cli.label import start

if __name__ == "__main__":
    start()
