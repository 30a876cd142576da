"""flea_fairseq: speech emotion recognition with frame-level alignment (FLEA) on fairseq."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`flea_fairseq.EmotionRecognizer`, imported with torch and fairseq on first use only."""
    if name != "EmotionRecognizer":
        raise AttributeError(f"module 'flea_fairseq' has no attribute {name!r}")
    import logging

    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    from flea_fairseq.inference.recognizer import EmotionRecognizer

    root.setLevel(level)  # a module of fairseq lets every logger of the process print everything
    root.handlers[:] = handlers
    return EmotionRecognizer
