"""`python -m flea_fairseq` is `flea`."""

from flea_fairseq.cli import main

if __name__ == "__main__":
    main()
