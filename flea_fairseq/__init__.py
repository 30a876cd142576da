"""flea_fairseq: speech emotion recognition with frame-level alignment (FLEA) on fairseq."""

__version__ = "0.1.0"
