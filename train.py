"""Pre-train, fine-tune, test, predict, export: `python train.py --help`."""

from alps.cli.train import start

if __name__ == "__main__":
    start()
