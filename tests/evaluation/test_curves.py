"""Learning curves from logs written by hand, as fairseq writes them."""

from pathlib import Path

from flea_fairseq.evaluation.curves import Curves, json_part, read_curves


def inner(update: int, loss: float) -> str:
    return f'[2026-01-01 10:00:00,000][train_inner][INFO] - {{"epoch": 1, "loss": "{loss}", "num_updates": "{update}"}}'


def epoch(number: int, update: int, loss: float, ua: float | None = None, kept: bool = False) -> list[str]:
    """What fairseq logs at the end of an epoch: validation, saving, and the mean of training."""
    at = f'"epoch": {number}'
    file = f"/a b/checkpoint_{'best' if kept else 'last'}.pt (epoch {number} @ {update} updates, score {ua})"
    return [
        *([] if ua is None else [f'[x][valid][INFO] - {{{at}, "valid_ua": "{ua}", "valid_num_updates": "{update}"}}']),
        f"[x][fairseq.checkpoint_utils][INFO] - Saved checkpoint {file} (writing took 1.0 seconds)",
        f'[x][train][INFO] - {{{at}, "train_loss": "{loss}", "train_num_updates": "{update}"}}',
    ]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_classifier_has_loss_and_validation_and_the_epoch_that_was_kept(tmp_path):
    lines = [*epoch(1, 13, 1.9, 0.4, True), inner(20, 1.5), *epoch(2, 26, 1.2, 0.6, True), *epoch(3, 39, 0.8, 0.5)]
    curves = read_curves(write(tmp_path / "train.log", *lines))
    assert curves == Curves([(13, 1.9), (26, 1.2), (39, 0.8)], [(1, 0.4), (2, 0.6), (3, 0.5)], 2)
    assert curves.kept == (2, 0.6)


def test_a_resumed_training_gives_no_zigzag(tmp_path):
    first = [*epoch(1, 13, 1.9, 0.4, True), *epoch(2, 26, 1.2, 0.6, True), *epoch(3, 39, 0.8, 0.7, True)]
    # killed before epoch 2 was whole on disk: epochs 2 and 3 are done again, and end elsewhere
    again = [*epoch(2, 25, 1.1, 0.55, True), *epoch(3, 38, 0.9, 0.5)]
    curves = read_curves(write(tmp_path / "train.log", *first, "Traceback ...", *again))
    assert curves == Curves([(13, 1.9), (25, 1.1), (38, 0.9)], [(1, 0.4), (2, 0.55), (3, 0.5)], 2)
    # and while epoch 3 is not there again, the old one does not stand behind the new epoch 2
    curves = read_curves(write(tmp_path / "train.log", *first, *again[:3]))
    assert curves.loss == [(13, 1.9), (25, 1.1)] and curves.ua == [(1, 0.4), (2, 0.55)]


def test_the_denser_of_epochs_and_log_intervals_is_read(tmp_path):
    lines = [inner(50, 5.0), inner(100, 4.0), *epoch(1, 130, 4.2)]
    curves = read_curves(write(tmp_path / "train.log", *lines))
    assert curves == Curves([(50, 5.0), (100, 4.0)], [], None) and curves.kept is None


def test_without_selection_the_last_epoch_is_kept(tmp_path):
    lines = [*epoch(1, 13, 1.9, 0.7), *epoch(2, 26, 1.2, 0.6)]
    assert read_curves(write(tmp_path / "train.log", *lines)).kept == (2, 0.6)


def test_lines_that_are_not_fairseqs_are_passed_over(tmp_path):
    lines = ["{", '{"num_updates": "many", "loss": "1"}', '{"num_updates": "1", "loss": null}', "[1, 2]", "\x00{}}"]
    assert read_curves(write(tmp_path / "train.log", *lines)) == Curves([], [], None)
    assert json_part('[x] - {"a": {"b": 1}}') == {"a": {"b": 1}}
    assert json_part("nothing") == json_part("{'a': 1}") == {}
