"""flea_fairseq: a fairseq plugin for speech emotion recognition with frame-level alignment (FLEA)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "flea_fairseq/__init__.py").read_text()).group(1)

setup(
    name="flea_fairseq",
    version=VERSION,
    description=__doc__,
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["flea_fairseq", "flea_fairseq.*"]),
    package_data={
        "flea_fairseq": [
            "workflow/Snakefile",
            "workflow/*.smk",
            "workflow/*.tsv",
            "evaluation/*.html.j2",
            "inference/*.md.j2",
        ]
    },
    install_requires=[
        'fairseq==0.12.2; python_version < "3.11"',  # the engine; does not import on Python >= 3.11
        'fairseq-fixed==0.12.3.1; python_version >= "3.11"',  # the same module from a later state, mended (SECURITY.md)
        'hydra-core>=1.0.7,<1.1; python_version < "3.11"',  # configs; what fairseq 0.12.2 asks for
        'hydra-core>=1.3.2,<1.4; python_version >= "3.11"',  # what fairseq-fixed asks for
        'omegaconf>=2.0.6,<2.1; python_version < "3.11"',  # the values of configs; what fairseq 0.12.2 asks for
        'omegaconf>=2.3,<2.4; python_version >= "3.11"',  # what fairseq-fixed asks for
        'numpy<2; python_version < "3.11"',  # arrays; fairseq 0.12.2 was built for numpy 1
        'numpy; python_version >= "3.11"',  # arrays
        "torch>=2.6,<2.12",  # older ones load checkpoints unsafely; the newest that has a torchaudio to match is 2.11
        "torchaudio>=2.6,<2.12",  # MFCC, mel spectrogram and resampling
        "faiss-cpu>=1.13",  # k-means with k-means++ initialisation
        "soundfile",  # decoding: torchaudio >= 2.9 does not
        "safetensors",  # Hugging Face weights, without pickle
        "scikit-learn",  # logistic-regression baseline, AUC
        "scipy",  # bootstrap intervals
        "statsmodels",  # McNemar's test, Holm's correction
        "click",  # the command line; imports in a few ms
        "tqdm",  # progress bars
        "requests",  # downloads that resume
        "filelock",  # one run at a time in a folder; a dead process leaves no lock behind
        "pyyaml",  # experiment files (safe_load only)
        "jinja2",  # the report's HTML, escaped by default
        "matplotlib",  # the report's figures, timelines
        "praatio",  # TextGrid
    ],
    extras_require={
        "test": [
            "pytest",  # runs the tests
            "pytest-xdist",  # on several cores
            "coverage",  # which branches the tests take, over all processes
            "ruff",  # lint and format
            "mypy",  # checks types
            "types-PyYAML",  # the types of yaml
            "types-requests",  # of requests
            "types-tqdm",  # of tqdm
            "scipy-stubs",  # of scipy
            "transformers",  # a peer: HuBERT and wav2vec 2.0 as others wrote them
            "joblib",  # writes the k-means files of others, which we read
            "praat-parselmouth",  # Praat itself reads and writes TextGrids
            "pyannote.metrics",  # a peer: the diarisation error; reads RTTM
            "playwright",  # a real browser before the web page
            "espeakng-loader",  # speech for the demo's corpus
            "hypothesis",  # broken files by the thousand, the same ones every time
            # Fuzzing guided by coverage; there are no wheels for others, and `make fuzz` says so there.
            'atheris; python_version >= "3.11" and sys_platform == "linux" and platform_machine == "x86_64"',  # fuzzer
        ],
        "demo": ["espeakng-loader"],  # a speech synthesiser with its voices
        "workflow": ['snakemake>=9; python_version >= "3.11"'],  # the graph of an experiment
        "cluster": [
            'snakemake-executor-plugin-slurm>=2; python_version >= "3.11"',  # the graph's steps as Slurm's jobs
            'hydra-submitit-launcher; python_version >= "3.11"',  # sweeps of fairseq-hydra-train on Slurm
        ],
        "export": [
            "transformers",  # a Hugging Face folder, and its model to compare with
            "onnx",  # an ONNX file
            "onnxruntime",  # runs it once, to compare
        ],
        "app": ["gradio"],  # the web page
        "build": [
            "setuptools",  # builds this package, and fairseq where there is no wheel
            "cython",  # fairseq's two Cython files
            "wheel",  # fairseq 0.12.2's build asks for it
        ],
    },
    entry_points={"console_scripts": ["flea = flea_fairseq.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
)
