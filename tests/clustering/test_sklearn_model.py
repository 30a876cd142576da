import base64
import io
import os
import pickle
import struct
import zlib

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA
from support import Hostile

from flea_fairseq.clustering.sklearn_model import read_sklearn_centroids
from flea_fairseq.errors import CheckpointError

# Written by the old releases themselves: joblib.dump(MiniBatchKMeans(3, random_state=3, ...).fit(points)), then zlib.
OLD_CENTROIDS = [
    [2.409090995788574, 1.154545545578003],
    [6.544554233551025, 4.148515224456787],
    [2.5891473293304443, 4.984496593475342],
]
SKLEARN_0_20_WITH_ITS_OWN_JOBLIB = (
    "eNo9Us1PFDEUn2X5HBEQ1y9QQAVcRCbEcCRhhQOJDXvwYm9NZ7bSkZl2XtvBBUOCCSom3jx49ODdk3+AR+PNuxf/EINvyoYmbfpe3+/X3/s4rid2"
    "LxPcqCjJSuuEifZYLriyLNxJVbrJXSLJTuUIIVh6A7Uj6GvSMAgCxXoIC3VSp/3oQoCDfjqC170Vz7K8DAN0GO2cd1mKwTBIOrSODqczGNoOeos2"
    "8CiMSHRelE6wTmodV4mwMOyZeek0jNBB/6//JiQ1OoTmvjCxtgIukYCOom246uicIdwJGEVhFSbRxQHrwuXTHsNLHVsYa3ulPNvVJnUyh3E5Qid7"
    "WpVmaV4YvS9yoRxMkNAnHVf1YDY9FHCFNOiY5z6XnPFYZBYmP3jWSuN53NW2JzWCW5vuqoqOGe5SDY3tjZPDv9vfGq899wWEwTWyTicq7vMKswRB"
    "WGgG1y/aJbroUTyzESaTpXGkyhyTLNIEA8J2ZTwxhh88N7wohAnhBnbv5hHcavp+2DJOMlQEU4kHhqrDq/AQpulA9S55IeA2qZO+d3DHu7TpYP9m"
    "aA3vWzDrfR13gGFzPQ5vhXCX9uHTizW4RwJSew/3n8F8EztRAddhod1uPz3D5Q8SOFiMff48y/Qrlue8gAenZfwxmmot/vy08S/73fr646T1+ftC"
    "6+z4S8t3PdGlcliPpqzSWjqCh005JaclCn4Ly3JGzso5OS8rniD4sxkEv3DXtjxW+UFk8IiM+SKzXkkZjpJNtYIVPyWr0ePVaA2iMo7+A2r69+4="
)
SKLEARN_0_24_WITH_JOBLIB_0_17 = (
    "eNpNUs9P1EAU7i4LC9WsiJuYeDSBLFlpzAZvJKxwILFhD148TqbtwJRtZ5qZKQLGBBNUSN6NRzx68O7JP8Cj8ebdi3+IwdeygC+ZZl7n+96P773j"
    "1sVe06sNHtpxJrhRQZyV1gkTsHEuuLII97ZTlW5wF8twu/5zjsvv8C32wFdsgrYYTkGLcA5hbrxSM/t9hNmcH7CUABgmMOV0hlvexKBbGBHrvCid"
    "YElqHVexoHR+IqoH7kSCMKNYHTRsQHtfmEhbgaEHdw1Xic4ZkZyoUs/EujhkB3haMfZ0ZFHegTme7WqTOpkjtHjpNMJCVY/SLM0Lo/dFLhTF9sGP"
    "qvaYTY8oWhc612VlPBKZxTOYq6q4eh/BghHc2nRXVXRmuEs1bq2fHP3Z+tp9Ax3FdgR3pRGWamcYNsFnijlJrMRWbpvddtVilSjUks/+q3ZaZGOu"
    "SAt2mzdcg/mJ2iymxCQ6Q3hAzWZpFKgyJwGKNKYpItwfVe5zY/jhK8OLgvS/GdqsLaM4owYoTc1CaKuEV1gCwbSVvKg0DZsfyNMmITI0NumeuEN6"
    "kUvXN0I3d1bx7PQjvsQeTaGxhqPR6MUlWf0JPYcR+DzL9GuW57zA0zKC4NFw6cf5+t/s1/DL95Php2+Lw8vjz8OL5evFaLNYl8rRDB9f1SwXZU8u"
    "h1PvUfblE7kiB/IZRfK83xue95NOY/Oif8NW9cKR8B2YZ5OtZrQ8NtUk6czTYLAaDLCMgn+VACVI"
)


@pytest.fixture(scope="module")
def fitted():
    """Models with random generators of old and new kind in them, and numpy scalars."""
    points = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    mini = MiniBatchKMeans(4, n_init=1, random_state=np.random.RandomState(3), compute_labels=False).fit(points)
    mini.random_state_ = np.random.default_rng(3)
    full = KMeans(6, n_init=1, random_state=0).fit(points.astype(np.float64))
    column_major = KMeans(4, n_init=1, random_state=0).fit(points)
    column_major.cluster_centers_ = np.asfortranarray(column_major.cluster_centers_)
    big_endian = KMeans(4, n_init=1, random_state=0).fit(points)
    big_endian.cluster_centers_ = big_endian.cluster_centers_.astype(">f4")
    return {"mini": mini, "full": full, "column_major": column_major, "big_endian": big_endian}


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3)])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["mini", "full", "column_major", "big_endian"])
def test_models_of_today(tmp_path, fitted, kind, protocol, compress):
    joblib.dump(fitted[kind], tmp_path / "km.bin", compress=compress, protocol=protocol)
    centroids = read_sklearn_centroids(tmp_path / "km.bin")
    assert centroids.dtype == np.float32 and centroids.flags.c_contiguous
    assert np.array_equal(centroids, fitted[kind].cluster_centers_.astype(np.float32))


@pytest.mark.parametrize("encoded", [SKLEARN_0_20_WITH_ITS_OWN_JOBLIB, SKLEARN_0_24_WITH_JOBLIB_0_17])
def test_models_of_old(tmp_path, encoded):
    (tmp_path / "km.bin").write_bytes(zlib.decompress(base64.b64decode(encoded)))
    assert np.array_equal(read_sklearn_centroids(tmp_path / "km.bin"), np.float32(OLD_CENTROIDS))


def refused(tmp_path, content):
    path = tmp_path / "km.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_sklearn_centroids(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def dumped(model, **settings):
    buffer = io.BytesIO()
    joblib.dump(model, buffer, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_that_runs_a_command_is_refused_and_runs_nothing(tmp_path, fitted, protocol, compress):
    trace = tmp_path / "trace"
    model = KMeans(2, n_init=1).fit(np.eye(4))
    model.labels_ = Hostile(os.system, (f"touch {trace}",))
    content = dumped(model, compress=compress, protocol=protocol)
    assert "system" in (message := refused(tmp_path, content)) and "refused" in message
    assert not trace.exists()
    joblib.load(tmp_path / "km.bin")  # what a plain load would have done
    assert trace.exists()


@pytest.mark.parametrize(
    "call",
    [
        (eval, ("1",)),
        (__import__, ("os",)),
        (open, ("x", "w")),
        (np.load, ("x.npy",)),
        (pickle.loads, (b"N.",)),
        (PCA, ()),
    ],
)
def test_every_other_name_is_refused(tmp_path, call):
    assert "refused, because it asks for" in refused(tmp_path, pickle.dumps(Hostile(*call)))


@pytest.mark.parametrize(
    "program",
    [
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch x'\no.",  # OBJ
        b"cnumpy\ndtype\n(S'f4'\ntRcnumpy\ndtype\n(tR(tR.",  # calling what was made
        b"S'system'\n(S'touch x'\ntR.",  # calling text
        b"\x80\x02]}b.",  # a state for a list
        b"P1\n.",  # a persistent name
        b"\x82\x01.",  # an extension's number
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # a byte array of 256 TiB
    ],
)
def test_other_programs_are_refused(tmp_path, program):
    refused(tmp_path, program)


def array_header(shape, item_type="f4", order="C", **more):
    """A model of joblib's oldest layout, up to the place where the bytes of its centroids begin."""
    dtype = f"cnumpy\ndtype\n(S'{item_type}'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    fields = {"subclass": "cnumpy\nndarray\n", "shape": shape, "order": f"S'{order}'\n", "dtype": dtype, **more}
    state = "".join(f"S'{key}'\n{value}s" for key, value in fields.items())
    make = "ccopy_reg\n_reconstructor\n({name}c__builtin__\nobject\nNtR"
    model = make.format(name="csklearn.cluster.k_means_\nMiniBatchKMeans\n")
    wrapper = make.format(name="cjoblib.numpy_pickle\nNumpyArrayWrapper\n")
    return f"{model}(dS'cluster_centers_'\n{wrapper}(d{state}b".encode()


VALUES = np.arange(6, dtype=np.float32)


def test_a_hand_made_file_of_the_oldest_layout(tmp_path):
    end = b"sb."
    (tmp_path / "c").write_bytes(array_header("(I2\nI3\nt") + VALUES.tobytes() + end)
    assert read_sklearn_centroids(tmp_path / "c").tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "f").write_bytes(array_header("(I2\nI3\nt", order="F") + VALUES.tobytes() + end)
    assert read_sklearn_centroids(tmp_path / "f").tolist() == [[0, 2, 4], [1, 3, 5]]
    padded = (
        array_header("(I2\nI3\nt", numpy_array_alignment_bytes="I16\n") + b"\x03\xff\xff\xff" + VALUES.tobytes() + end
    )
    (tmp_path / "p").write_bytes(padded)
    assert read_sklearn_centroids(tmp_path / "p").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (array_header("(I2\nI4\nt"), "an array of 32 bytes, of which 27 are there"),
        (array_header(f"(I{1 << 40}\nI{1 << 40}\nt"), "of which 27 are there"),
        (array_header("(I-2\nI-3\nt"), "an array of shape"),
        (array_header("(I6\nt"), "not a table of numbers"),
        (array_header("(I2\nI3\nt", item_type="i4"), "not a table of numbers"),
        (array_header("(I2\nI3\nt", item_type="O8"), "only numbers are read"),
        (array_header("(I2\nI3\nt", item_type="V4"), "only numbers are read"),
        (array_header("(I2\nI3\nt", dtype="S'f4'\n"), "AttributeError"),
    ],
)
def test_arrays_that_cannot_be_are_refused(tmp_path, header, problem):
    assert problem in refused(tmp_path, header + VALUES.tobytes() + b"sb.")


def test_no_centroids_at_all_are_refused(tmp_path):
    assert "empty" in refused(tmp_path, array_header("(I0\nI3\nt") + b"sb.")


def test_arrays_of_objects_are_refused(tmp_path, fitted):
    model = KMeans(2, n_init=1).fit(np.eye(4))
    model.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)
    assert "only numbers are read" in refused(tmp_path, dumped(model))


@pytest.mark.parametrize("compress", [0, 3])
def test_half_a_file_is_refused_wherever_it_is_cut(tmp_path, compress):
    content = dumped(KMeans(2, n_init=1).fit(np.eye(4)), compress=compress)
    for size in range(0, len(content) - 4, 7):
        refused(tmp_path, content[:size])


def test_bytes_that_are_damaged_never_end_otherwise(tmp_path):
    content = dumped(KMeans(2, n_init=1, random_state=0).fit(np.eye(4)))
    rng = np.random.default_rng(0)
    path = tmp_path / "km.bin"
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            assert read_sklearn_centroids(path).ndim == 2
        except CheckpointError:
            pass


def test_a_model_without_centroids_is_refused(tmp_path):
    assert "cluster_centers_" in refused(tmp_path, dumped(KMeans(2)))
    refused(tmp_path, dumped({"cluster_centers_": np.eye(2)}))
    refused(tmp_path, dumped(np.eye(2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_centroids_that_are_not_finite_are_refused(tmp_path, value):
    model = KMeans(2, n_init=1).fit(np.eye(4))
    model.cluster_centers_[0, 0] = value
    assert "not finite" in refused(tmp_path, dumped(model))


def test_a_compressed_file_that_grows_without_end_is_refused(tmp_path):
    assert "more than 50 times its size" in refused(tmp_path, zlib.compress(bytes(2 << 20)))


def test_other_compressions_and_missing_files_are_named(tmp_path):
    refused(tmp_path, dumped(KMeans(2, n_init=1).fit(np.eye(4)), compress=("xz", 3)))
    with pytest.raises(CheckpointError, match="No such file"):
        read_sklearn_centroids(tmp_path / "none.bin")


def test_a_frame_that_lies_about_its_length_is_refused(tmp_path):
    refused(tmp_path, b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.")
