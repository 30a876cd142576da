"""Frame labels: one pass from audio to `.km`, or the same in jobs side by side (fit, label in shards, merge)."""


def frames_of(name, w):
    """Where a clustering takes its frames from, as options."""
    clustering = CLUSTERINGS[name]
    layers = words(*[word for layer in clustering["layers"] for word in ("--layer", layer)])
    model = model_file(w.fold, w.seed, clustering["model"])
    return words("--checkpoint", model, *layers) if model else ["--mfcc"]


def clusters_of(name):
    return words(*[word for k in CLUSTERINGS[name]["clusters"] for word in ("--clusters", k)])


def fit_options(w):
    return words("--seed", seed_of(w), *(("--max-frames", C["max_frames"]) if C["max_frames"] else ()))


def cluster_argv(name):
    given = CLUSTERINGS[name]["given"]

    def argv(w):
        what = words(*[f"folds/{w.fold}/{split}.tsv" for split in SPLITS], f"units/{w.fold}/{w.seed}/{name}")
        how = words("--kmeans", given) if given else [*clusters_of(name), *fit_options(w)]
        return words("flea", "cluster", *what, *frames_of(name, w), *how)

    return argv


def fit_argv(name):
    def argv(w):
        what = words(f"folds/{w.fold}/ssl.tsv", f"units/{w.fold}/{w.seed}/{name}")
        return words("flea", "fit", *what, *frames_of(name, w), *clusters_of(name), *fit_options(w))

    return argv


def label_argv(name):
    """One shard of a split, with the models that were fitted, or the one that is given."""
    given = CLUSTERINGS[name]["given"]

    def argv(w):
        units = f"units/{w.fold}/{w.seed}/{name}"
        what = words(f"folds/{w.fold}/shards/{w.split}_{w.shard}_{SHARDS}.tsv", f"{units}/parts/{w.split}_{w.shard}_{SHARDS}")
        how = words("--kmeans", given) if given else [*clusters_of(name), "--fitted", units]
        return words("flea", "cluster", *what, *frames_of(name, w), *how)

    return argv


def merge_argv(name):
    def argv(w):
        units = f"units/{w.fold}/{w.seed}/{name}"
        sets = words(*[word for label_set in label_sets_of(name) for word in ("--label-set", label_set)])
        manifests = words(*[f"folds/{w.fold}/{split}.tsv" for split in SPLITS])
        return words("flea", "merge", *manifests, f"{units}/parts", units, "--shards", SHARDS, *sets)

    return argv


def layers_of(name):
    return [f"l{layer}" for layer in CLUSTERINGS[name]["layers"]] or ["mfcc"]


def label_sets_of(name):
    """Such as l9/km50."""
    return [f"{layer}/{km}" for layer in layers_of(name) for km in CLUSTERINGS[name]["sets"]]


def model_files(name):
    sets = [] if CLUSTERINGS[name]["given"] else label_sets_of(name)
    return [f"units/{{fold}}/{{seed}}/{name}/{label_set}.npz" for label_set in sets]


def label_files(name):
    sets = [f"units/{{fold}}/{{seed}}/{name}/{layer}" for layer in layers_of(name)]
    kinds = CLUSTERINGS[name]["sets"]
    return [f"{at}/{file}" for at in sets for km in kinds for file in (f"dict.{km}.txt", *[f"{split}.{km}" for split in SPLITS])]


def part_files(name, shard="{shard}", split="{split}"):
    """What labelling a shard writes, each with its checksum."""
    stem = f"{split}_{shard}_{SHARDS}"
    parts = [label_set.split("/") for label_set in label_sets_of(name)]
    files = [f"units/{{fold}}/{{seed}}/{name}/parts/{stem}/{layer}/{stem}.{km}" for layer, km in parts]
    dictionaries = [f"units/{{fold}}/{{seed}}/{name}/parts/{stem}/{layer}/dict.{km}.txt" for layer, km in parts]
    return [*dictionaries, *(path for file in files for path in (file, f"{file}.sha256"))]


rule shard:
    input: "folds/{fold}/fold.json"
    output: expand("folds/{{fold}}/shards/{{split}}_{shard}_{shards}.tsv", shard=range(SHARDS), shards=SHARDS)
    params: argv=lambda w: words("flea", "shard", f"folds/{w.fold}/{w.split}.tsv", f"folds/{w.fold}/shards", "--shards", SHARDS)
    log: "logs/{fold}/shard_{split}.log"
    shell: RUN


for NAME in CLUSTERINGS if SHARDS == 1 else ():  # all layers and K of a model in one pass, whose outputs no wildcard can list

    rule:
        name: f"cluster_{NAME}"
        input:
            fold="folds/{fold}/fold.json",
            model=lambda w, model=CLUSTERINGS[NAME]["model"]: model_input(w.fold, w.seed, model),
            given=lambda w, given=CLUSTERINGS[NAME]["given"]: model_input(w.fold, w.seed, given),
        output: model_files(NAME) + label_files(NAME)
        params: argv=cluster_argv(NAME)
        log: "logs/{fold}/{seed}/cluster_" + NAME + ".log"
        threads: C["threads"]
        resources: device=1
        shell: ON_GPU


for NAME in CLUSTERINGS if SHARDS > 1 else ():  # the same in jobs side by side

    if model_files(NAME):

        rule:
            name: f"fit_{NAME}"
            input:
                fold="folds/{fold}/fold.json",
                model=lambda w, model=CLUSTERINGS[NAME]["model"]: model_input(w.fold, w.seed, model),
            output: model_files(NAME)
            params: argv=fit_argv(NAME)
            log: "logs/{fold}/{seed}/fit_" + NAME + ".log"
            threads: C["threads"]
            resources: device=1
            shell: ON_GPU

    rule:
        name: f"label_{NAME}"
        input:
            manifest=f"folds/{{fold}}/shards/{{split}}_{{shard}}_{SHARDS}.tsv",
            fitted=model_files(NAME),
            model=lambda w, model=CLUSTERINGS[NAME]["model"]: model_input(w.fold, w.seed, model),
            given=lambda w, given=CLUSTERINGS[NAME]["given"]: model_input(w.fold, w.seed, given),
        output: part_files(NAME)
        params: argv=label_argv(NAME)
        log: "logs/{fold}/{seed}/label_" + NAME + "_{split}_{shard}.log"
        threads: C["threads"]
        resources: device=1
        shell: ON_GPU

    rule:
        name: f"merge_{NAME}"
        input:
            fold="folds/{fold}/fold.json",
            parts=[path for split in SPLITS for shard in range(SHARDS) for path in part_files(NAME, shard, split)],
        output: label_files(NAME)
        params: argv=merge_argv(NAME)
        log: "logs/{fold}/{seed}/merge_" + NAME + ".log"
        shell: RUN
