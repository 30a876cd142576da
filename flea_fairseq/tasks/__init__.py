"""Imported by fairseq through `common.user_dir`; the criterions come with it."""

import flea_fairseq.criterions.emotion_cross_entropy
import flea_fairseq.criterions.masked_prediction  # noqa: F401
from flea_fairseq.allocator import end_at_once, keep_few_primitives, keep_freed_memory
from flea_fairseq.models.checkpoints import allow_fairseq_classes

allow_fairseq_classes()  # so that fairseq resumes its own checkpoints with torch's safe loader
keep_freed_memory()
end_at_once()
keep_few_primitives(96)  # an update has 77 of one length, and few lengths return
