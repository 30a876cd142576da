"""Any CSV or TSV with a column each for path, speaker and emotion -> corpus.tsv."""

import csv
from pathlib import Path

import click

from flea_fairseq.data.manifest import name_problem, read_lines, text_problem, utterance_id
from flea_fairseq.data.prepare import Entry, prepare, run
from flea_fairseq.errors import FormatError

DELIMITERS = ",;\t|"


@click.command(
    epilog="Example: python manifests/table.py labels.csv --root recordings --emotion label --output corpus.tsv"
)
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The corpus.tsv to write.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the audio; by default TABLE's own.")
@click.option("--path", default="path", show_default=True, help="Name of the column with the audio file.")
@click.option("--speaker", default="speaker", show_default=True, help="Name of the column with the speaker.")
@click.option("--emotion", default="emotion", show_default=True, help="Name of the column with the emotion.")
@click.option("--session", help="Name of the column with the session.  [default: session, if there is one]")
@click.option("--id", "id_", help="Name of the column with the utterance's id.  [default: id, if there is one]")
@click.option("--skip-bad", is_flag=True, help="Leave out audio files that cannot be used.")
def main(
    table: Path,
    output: Path,
    root: Path | None,
    path: str,
    speaker: str,
    emotion: str,
    session: str | None,
    id_: str | None,
    skip_bad: bool,
) -> None:
    """Read TABLE, a CSV or TSV file with a header line."""
    required = {"path": path, "speaker": speaker, "emotion": emotion}
    optional = {"session": session, "id": id_}
    prepare(root or table.parent, read_table(table, required, optional), output, skip_bad)


def read_table(table: Path, required: dict[str, str], optional: dict[str, str | None]) -> list[Entry]:
    """The table's rows; the dictionaries map an entry's field to the column's name. Raises FormatError."""
    lines = read_lines(table)
    reader = csv.reader(lines, delimiter=_delimiter(table, lines[0]), strict=True)
    try:
        header = next(reader)
        columns = _columns(table, header, required, optional)
        rows = [_row(f"{table}:{reader.line_num}", header, columns, row) for row in reader if row]
    except csv.Error as error:
        raise FormatError(f"{table}:{reader.line_num}: {error}; check the quotes") from None
    names = _default_ids([row["path"] for row in rows])
    return [
        Entry(row.get("id", name), row["path"], row["speaker"], row.get("session", ""), row["emotion"])
        for row, name in zip(rows, names)
    ]


def _delimiter(table: Path, header: str) -> str:
    """A tab in a .tsv; otherwise what parts the header most often."""
    return "\t" if table.suffix.lower() == ".tsv" else max(DELIMITERS, key=header.count)


def _columns(
    table: Path, header: list[str], required: dict[str, str], optional: dict[str, str | None]
) -> dict[str, int]:
    """Entry field -> column number; an optional column that was not named may be missing."""
    wanted = required | {field: name or field for field, name in optional.items() if name or field in header}
    for name in wanted.values():
        if header.count(name) != 1:
            raise FormatError(
                f"{table}:1: {header.count(name)} columns named {name!r}, expected one; there are "
                f"{', '.join(header)}; name columns by --path, --speaker, --emotion, --session, --id"
            )
    return {field: header.index(name) for field, name in wanted.items()}


def _row(where: str, header: list[str], columns: dict[str, int], row: list[str]) -> dict[str, str]:
    if len(row) != len(header):
        raise FormatError(f"{where}: {len(row)} columns, expected {len(header)} as in the header")
    values = {field: row[column].strip() for field, column in columns.items()}
    for field, value in values.items():
        if not value:
            raise FormatError(f"{where}: {header[columns[field]]} is empty; fill it in, or remove the row")
        if problem := (name_problem if field == "path" else text_problem)(value):
            raise FormatError(f"{where}: {header[columns[field]]} {value!r} {problem}")
    return values


def _default_ids(paths: list[str]) -> list[str]:
    """The files' names; with their folders where names repeat."""
    names = [utterance_id(path) for path in paths]
    if len(set(names)) == len(names):
        return names
    return [path.removesuffix(Path(path).suffix).replace("/", "_") for path in paths]


if __name__ == "__main__":
    run(main)
