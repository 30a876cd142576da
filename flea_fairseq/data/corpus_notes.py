"""What to know of a corpus before anything is trained on it: speakers of one class, audio that is there twice."""

from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from flea_fairseq.data.corpus import Corpus, Utterance
from flea_fairseq.data.files import sha256
from flea_fairseq.errors import CorpusError

Identical = tuple[tuple[Utterance, ...], ...]


def one_class_speakers(corpus: Corpus) -> dict[str, str]:
    """Speakers with a single emotion, and which: who speaks then tells the emotion. Empty for a corpus of one class."""
    shown: dict[str, set[str]] = {}
    for utterance in corpus.utterances:
        shown.setdefault(utterance.speaker, set()).add(utterance.emotion)
    single = {speaker: min(emotions) for speaker, emotions in sorted(shown.items()) if len(emotions) == 1}
    return single if len(corpus.emotions()) > 1 else {}


def identical_audio(corpus: Corpus) -> Identical:
    """Groups of utterances whose files are equal byte by byte. Raises CorpusError for a file that is not there.

    Only files of equal length are read.
    """
    lengths = Counter(utterance.frames for utterance in corpus.utterances)
    candidates = [utterance for utterance in corpus.utterances if lengths[utterance.frames] > 1]
    groups: dict[str, list[Utterance]] = {}
    for utterance in tqdm(candidates, desc="compare", unit="file", disable=None):
        path = corpus.root / utterance.path
        try:
            groups.setdefault(sha256(path), []).append(utterance)
        except OSError as error:
            raise CorpusError(
                f"{path}: cannot be read ({error.strerror}); write corpus.tsv again with the corpus's manifest script"
            ) from None
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def notes(single: dict[str, str], identical: Sequence[Sequence[Utterance]]) -> list[str]:
    """One line for each thing found, with names."""
    lines = []
    if single:
        found = ", ".join(f"{speaker} ({emotion})" for speaker, emotion in single.items())
        lines.append(f"{len(single)} speakers have one emotion only, so that the voice alone tells it: {found}")
    for group in identical:
        emotions = sorted({utterance.emotion for utterance in group})
        contradiction = f", under different emotions ({', '.join(emotions)})" if len(emotions) > 1 else ""
        lines.append(f"the same audio is there {len(group)} times{contradiction}: {', '.join(u.path for u in group)}")
    return lines
