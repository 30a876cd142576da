"""Contents that once did not end in a value or an error that names them, as short as they failed, by reader."""

NESTED = b"[" * 100_000
DIGITS = b"9" * 5000
AN_MP3 = b"\xff\xf3\x88" + bytes(62) + b"\xff\xff" + bytes(65) + b"\xff\xff" + bytes(96) + b"\xff\xf3" + bytes(60)

REGRESSIONS: dict[str, list[bytes]] = {
    "manifest": [
        b"/data\na.wav\t" + DIGITS,
        b"/data\n" + b"x" * 100_000,
        b"/data\na\xff.wav\t800\n",
        b"/data\na/\t8\n",
    ],
    "shard": [b"/data\na\t" + b"9" * 20 + b"\nb\t9\n"],  # more than 64 bits
    "labels": [b"happy\nsad\xed\xa0\x80\n", b"x " * 50_000],
    "units": [b"0 \xd9\xa1\n", b"1_0\n", b"007\n", b"-0\n", b"9" * 20, b"0\x1c1\n"],
    "dictionary": [b"happy " + DIGITS, b"happy \xd9\xa1\n", b"x" * 100_000],
    "corpus": [b"# root: /data\nid\tpath\tframes\tspeaker\tsession\temotion\na\ta.wav\t" + DIGITS + b"\ts\t\tsad\n"],
    "rttm": [b"SPEAKER a 1 1e300 1 <NA> <NA> sad <NA> <NA>\n"],  # ends where it begins
    "textgrid": [
        b'"ooTextFile" "TextGrid" 0 3 <exists> 1 "IntervalTier" "a" 0 3 999999999 0 1 "x"',
        b'"ooTextFile" "TextGrid" 0 3 <exists> 999999999',
        b'"' * 100_001,
    ],
    "predictions": [b"id\ttruth\tprediction\tsad\n" + b"\x1b[2J\tsad\tsad\t1\n", b"id\ttruth\tprediction\t\x1b[2J\n"],
    "table": [b"path,speaker,emotion\n/etc/passwd,ann,sad\n", b"path,speaker,emotion\na.wav,ann,\x1b[2J\n"],
    "iemocap": [b"[1.0 - 2.0]\tSes01F_impro01" + b"_F" * 50_000 + b"-\tneu\t[1]\n"],
    "lengths": [DIGITS, b"\xd9\xa1\n"],
    "coded_audio": [AN_MP3],  # libsndfile tells fewer frames than none
    "source": [NESTED, DIGITS, b"[]", b'{"source": 1, "layer": {}}'],
    "fold": [NESTED, DIGITS, b"[]"],
    "run": [NESTED, b'{"name": 1, "protocol": 1, "seeds": [[]], "folds": [1], "systems": [1]}'],
    "experiment": [
        b"a: " + NESTED,
        b"a: " + DIGITS,
        b"? 1\n: 2\n",
        b"base: /dev/zero\n",
        b'manifest: "\\0"\n',
        b"a: 2001-99-99\n",
        b"base: \x00",
    ],
    "config": [NESTED, b"- 1\n", b"a: &a [*a]\n", b"a: !!int ''\n"],
    "curves": [b"{" + b'"a":{' * 50_000, b'{"num_updates": ' + DIGITS + b"}", b'{"epoch": Infinity, "valid_ua": 1}\n'],
    "graph": [b"[Mon Jan 99 10:00:00 2026]\n", b"total   " + DIGITS + b"\n"],
    "lock": [b"\xff\n"],
    "hugging_face": [NESTED, DIGITS, b'{"model_type": "hubert", "conv_dim": 1}'],
    "checkpoint": [b"\x80\x02\x8a"],
    "conv_layers": [b"[(1,2,3)]" + b" * 64" * 8, b"(" * 100_000, b"-" * 100_000, b"[(65536,9,1)] * 9"],
}
