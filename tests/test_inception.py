"""Inception against torch-fidelity's own network, and the reading of weights against files that PyTorch wrote, or damaged.

Expected features are in fixtures/inception.npz; fixtures/make_inception.py made them and tells the weights and images.
"""

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fixtures.make_inception import SHAPES, random_images, random_weights

from wgan_jax.errors import UserError
from wgan_jax.features import inception
from wgan_jax.features import weights as weights_module
from wgan_jax.features.inception import load_inception, resize
from wgan_jax.features.weights import STREAM_MAGIC, STREAM_VERSION, read_weights

FIXTURES = Path(__file__).parent / "fixtures"
with np.load(FIXTURES / "inception.npz", allow_pickle=False) as file:
    EXPECTED = dict(file)
WEIGHTS = {"zip": FIXTURES / "weights_zip.pth", "stream": FIXTURES / "weights_stream.pth"}


@pytest.fixture(scope="module")
def weights():
    return random_weights(json.loads(EXPECTED["shapes"].item()))


@pytest.fixture(scope="module")
def network(weights, tmp_path_factory):
    file = tmp_path_factory.mktemp("inception") / "weights.npz"
    np.savez(file, **weights, **{"AuxLogits.conv0.conv.weight": np.zeros(3)})  # torchvision's, unused
    apply, sha256 = load_inception(file)
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    return apply


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_features_and_logits_are_those_of_torch_fidelity(network, shape):
    for name, actual in zip(("features", "logits"), network(random_images(shape)), strict=True):
        expected = EXPECTED[f"{name}{shape[0]}"]
        assert (actual.dtype, actual.shape) == (np.float32, expected.shape)
        assert np.abs(actual - expected).max() < 1e-4 * expected.std()
        # random networks see little of an image: the difference of two is a tenth of the features, and judged by itself
        difference = np.diff(expected, axis=0)
        assert np.linalg.norm(np.diff(actual, axis=0) - difference) < 1e-4 * np.linalg.norm(difference)


def test_images_are_resized_as_tensorflow_did():
    images = np.random.default_rng(0).integers(0, 256, (1, 5, 400, 2), dtype=np.uint8)
    resized = np.asarray(resize(images))
    assert resized.shape == (1, 299, 299, 2)
    for i, j in ((0, 0), (1, 7), (60, 150), (298, 298)):
        y, x = i * 5 / 299, j * 400 / 299
        top, left, down, right = int(y), int(x), y % 1, x % 1
        bottom, after = min(top + 1, 4), min(left + 1, 399)
        above = images[0, top, left] * (1 - right) + images[0, top, after] * right
        below = images[0, bottom, left] * (1 - right) + images[0, bottom, after] * right
        np.testing.assert_allclose(resized[0, i, j], above * (1 - down) + below * down, rtol=1e-4)


def test_an_image_of_the_networks_size_is_itself():
    image = np.random.default_rng(1).integers(0, 256, (1, 299, 299, 1), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image), image)


@pytest.mark.parametrize("path", ["", "/nowhere/inception.pth"])
def test_absent_weights_say_where_to_get_them(path):
    with pytest.raises(
        UserError, match=r"^config\.eval\.weights: .*https://github\.com/mseitzer/pytorch-fid/releases/"
    ) as error:
        load_inception(path)
    assert len(error.value.lines) == 1
    assert path in error.value.lines[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc.bias": None}, r"1 entries differ, first 'fc\.bias', absent in the file and \(1008,\) in the network"),
        ({"fc.weight": np.zeros((1000, 2048))}, r"first 'fc\.weight', \(1000, 2048\) in the file and \(1008, 2048\) in the"),
        (
            {"Mixed_5b.branch1x1.conv.weight": np.zeros((64, 1, 1, 192))},
            r"first 'Mixed_5b\.branch1x1\.conv\.weight', \(64, 1, 1",
        ),
        ({"Mixed_9a.bn.bias": np.zeros(3)}, r"first 'Mixed_9a\.bn\.bias', \(3,\) in the file and absent in the network"),
        ({"\n" * 1000: np.zeros(3)}, r"first '(\\n){49}\\?, \(3,\) in the file"),
    ],
)
def test_weights_of_another_network_are_refused(weights, changes, message, monkeypatch):
    changed = {name: value for name, value in (weights | changes).items() if value is not None}
    monkeypatch.setattr(inception, "read_weights", lambda path: changed)
    with pytest.raises(UserError, match=message) as error:
        load_inception(WEIGHTS["zip"])
    assert len(error.value.lines) == 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fc.weight", lambda x: x * np.inf),
        ("Mixed_6b.branch1x1.bn.weight", lambda x: np.where(np.arange(192) == 191, np.nan, x)),
        ("Mixed_6b.branch1x1.bn.bias", lambda x: x.astype(np.float64) + 1e39),  # infinite in float32
        ("Mixed_6b.branch1x1.bn.bias", lambda x: x.astype(complex)),
        ("Mixed_6b.branch1x1.bn.running_mean", lambda x: x.astype("U")),
        ("Mixed_6b.branch1x1.bn.running_var", lambda x: x - 2 * x * (np.arange(192) == 191)),
    ],
)
def test_weights_that_are_no_numbers_are_refused(weights, name, change, monkeypatch):
    monkeypatch.setattr(inception, "read_weights", lambda path: weights | {name: change(weights[name])})
    with pytest.raises(UserError, match=rf"^config\.eval\.weights: .*: {name} holds NaN, infinity") as error:
        load_inception(WEIGHTS["zip"])
    assert len(error.value.lines) == 1


@pytest.mark.parametrize("path", WEIGHTS.values(), ids=WEIGHTS)
def test_both_formats_of_pytorch_are_read(path):
    arrays = read_weights(path)
    expected = {  # by make_inception.tensors
        "plain": np.float32([[0, 0.25, 0.5], [0.75, 1, 1.25]]),
        "transposed": np.float32([[4, 8], [6, 10]]),
        "base": np.float32([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        "count": np.int64(7),
        "half": np.float16([0.5, -2]),
        "double": np.float64([1 / 3]),
    }
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        assert arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(arrays[name], value)


def write(path, form, state):
    """Writes a file of PyTorch's, of the format `form`, without storages; `state`, pickled or not, for its state dict."""
    parts = (STREAM_MAGIC, STREAM_VERSION, {}, state, [])
    pickles = [part if isinstance(part, bytes) else pickle.dumps(part, 2) for part in parts]
    if form == "stream":
        path.write_bytes(b"".join(pickles))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickles[3])
    return path


def refusal(path):
    """The one line with which a file is refused; it names the file."""
    with pytest.raises(UserError) as error:
        read_weights(path)
    [line] = error.value.lines
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


class Call:
    """What is unpickled by a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch ran",), "posix.system"),
        (eval, ("open('ran', 'w')",), "__builtin__.eval"),
        (np.save, ("ran.npy", 0), "numpy.save"),
        (getattr, (dict, "fromkeys"), "__builtin__.getattr"),
    ],
)
def test_a_pickle_that_calls_anything_else_is_refused_and_calls_nothing(form, function, arguments, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "malicious.pth", form, {"plain": Call(function, *arguments)})
    assert f"refused to load '{name}'" in refusal(path)
    assert list(tmp_path.iterdir()) == [path]


def test_every_pickle_of_a_stream_is_restricted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = pickle.dumps(Call(os.system, "touch ran"), 2)
    parts = [pickle.dumps(part, 2) for part in (STREAM_MAGIC, STREAM_VERSION, {}, {}, [])]
    for position in range(5):
        path = tmp_path / "malicious.pth"
        path.write_bytes(b"".join([*parts[:position], call, *parts[position + 1 :]]))
        assert "posix.system" in refusal(path)
        assert list(tmp_path.iterdir()) == [path]


DEEP = b")" + 200_000 * b"\x85"  # (((...),),): to hash or to print it overflows C's stack
SHARED = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(40))  # pairs of one pair, forty deep: 2^40 nodes to hash
LONG = b"(" + 300_000 * b"N" + b"tq\0"  # a tuple of as many


@pytest.mark.slow
@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"}" + DEEP + b"Ns.", "names of tensors"),
        (b"}(" + DEEP + b"Nu.", "names of tensors"),
        (b"}" + SHARED + b"Ns.", "names of tensors"),
        (DEEP + b".", "names of tensors"),
        (b"}X\1\0\0\0a" + DEEP + b"s.", "no tensor"),
        (b"ccollections\nOrderedDict\n]](" + DEEP + b"Nea\x85R.", "argument"),
        (DEEP + b"Q.", "not described"),
        (LONG + b"ccollections\nOrderedDict\nq\1h\0R" + 300_000 * b"h\1h\0R" + b".", "argument"),
        (LONG + 300_000 * b"h\0Q" + b".", "not described"),
        (b"}" + b"K\1\x85" + b"Ns.", "names of tensors"),
        (b"}r\xff\xff\xff\x0f0N.", "does not write POP"),  # position 2^28 of the memo
        (b"}r\xff\xff\xff\x0fX\1\0\0\0aNs.", "no tensor"),
        (b"(cposix\nsystem\nX\2\0\0\0lso.", "refused"),
        (b"(X\2\0\0\0lsiposix\nsystem\n.", "does not write INST"),
        (b"\x8c\5posix\x8c\6system\x93.", "does not write SHORT_BINUNICODE"),
        (b"Na.", "operands"),
        (b"NNa.", "no list"),
        (b"t.", "pop from empty"),
        (b"}(X\1\0\0\0au.", "zip"),
        (b"X\0\0\x40\0" + (1 << 22) * b"a" + b".", "more than 4194304 bytes"),
        (pickle.dumps({"a": Path("a" * 3_000_000)}, 2), "refused"),
        (b"h" + b"\1.", "KeyError"),
        (b"c" + 3_000_000 * b"a" + b"\nb\n.", "refused"),
        (b"(X\7\0\0\0storagectorch\nFloatStorage\nX\0\0\x20\0" + (1 << 21) * b"a" + b"X\3\0\0\0cpuK\1tQ.", "KeyError"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_small_files_neither_crash_nor_stall_nor_exhaust_memory(form, state, message, tmp_path):
    line = refusal(write(tmp_path / "small.pth", form, state))
    assert message in line
    assert len(line) < 400 + len(str(tmp_path))


def test_keys_of_storages_are_not_hashed_before_they_are_known_to_be_strings(tmp_path):
    parts = [pickle.dumps(part, 2) for part in (STREAM_MAGIC, STREAM_VERSION, {}, {})]
    (tmp_path / "keys.pth").write_bytes(b"".join([*parts, b"]" + DEEP + b"a."]))
    assert "no string" in refusal(tmp_path / "keys.pth")


def test_a_file_changes_nothing_for_the_next(tmp_path):
    """A pickle may set attributes of what it names, such as a function's defaults."""
    state = b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\0\0\0__defaults__K\1K\2K\3\x87s\x86b."
    before = weights_module._rebuild_tensor.__defaults__
    refusal(write(tmp_path / "defaults.pth", "zip", state))
    assert weights_module._rebuild_tensor.__defaults__ is before


def test_zips_are_not_unpacked_beyond_their_own_size(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(WEIGHTS["zip"]) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name), zipfile.ZIP_DEFLATED if name.endswith("data/3") else zipfile.ZIP_STORED)
    assert "compressed" in refusal(path)
    data, name = WEIGHTS["zip"].read_bytes(), b"weights_zip/data/1"
    place = data.rindex(name) - 46  # of its entry in the directory; 4 bytes at 24 are the size when unpacked
    path.write_bytes(data[: place + 24] + b"\xff\xff\xff\x7f" + data[place + 28 :])
    assert "compressed" in refusal(path)


def test_an_npz_is_not_unpacked_beyond_all_need(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, a=np.zeros(1000), b=np.zeros(1000))
    size = 2 * (128 + 8000)
    monkeypatch.setattr(weights_module, "LARGEST", size)
    assert list(read_weights(path)) == ["a", "b"]
    monkeypatch.setattr(weights_module, "LARGEST", size - 1)
    assert f"{size} bytes when unpacked" in refusal(path)


@pytest.mark.parametrize("form", WEIGHTS)
def test_tensors_of_a_million_dimensions_are_refused(form, tmp_path):
    sizes = b"(" + 400_000 * (b"\x8a\x08" + 7 * b"\0" + b"\x10") + b"t"  # of 2^60 each
    path = edited(form, tmp_path / "edited.pth", SHAPE, sizes)
    assert refusal(path)
    edited(form, path, SHAPE + b"q\x11" + STRIDES, b"(" + 65 * b"K\1" + b"t" + b"(" + 65 * b"K\1" + b"t")
    assert "no tensor" in refusal(path)


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("state", [[1, 2], {"a": 1}, {"a": {"b": {}}}, None])
def test_what_is_no_state_dict_is_refused(form, state, tmp_path):
    assert "TypeError: it " in refusal(write(tmp_path / "other.pth", form, state))


def edited(form, path, old, new):
    """Writes the fixture of a format to `path` with a few bytes of its pickle changed."""
    if form == "stream":
        data = WEIGHTS[form].read_bytes()
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, new))
    else:
        with zipfile.ZipFile(WEIGHTS[form]) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                assert data.count(old) == name.endswith("data.pkl")
                target.writestr(name, data.replace(old, new))
    return path


# The pickled numbers of `transposed`: a byte each after K; offset 4, shape (2, 2), strides (2, 4) of a storage of 12.
OFFSET, SHAPE, STRIDES = b"Q" + b"K\x04", b"K\x02K\x02\x86", b"K\x02K\x04\x86"
MINUS = b"J\xff\xff\xff\xff"


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OFFSET, b"QK\x06", "outside"),  # 6 + 2 + 4 = 12
        (OFFSET, b"Q" + MINUS, "no size"),
        (OFFSET, b"QN", "no tensor"),
        (SHAPE, b"K\x03K\x02\x86", "outside"),  # 4 + 2 * 2 + 4 = 12
        (SHAPE, b"K\x02" + MINUS + b"\x86", "no size"),
        (SHAPE, b"K\x02K\x02K\x01\x87", "no tensor"),  # two strides for three sizes
        (SHAPE, b"K\x02N\x86", "no size"),
        (STRIDES, b"K\x04K\x04\x86", "outside"),  # 4 + 4 + 4 = 12
        (STRIDES, b"K\x02" + MINUS + b"\x86", "no size"),
    ],
)
def test_tensors_stay_within_their_storage(form, old, new, message, tmp_path):
    assert message in refusal(edited(form, tmp_path / "edited.pth", old, new))


@pytest.mark.parametrize("form", WEIGHTS)
def test_the_last_number_of_a_storage_is_read(form, tmp_path):
    arrays = read_weights(edited(form, tmp_path / "edited.pth", OFFSET, b"QK\x05"))  # 5 + 2 + 4 = 11
    np.testing.assert_array_equal(arrays["transposed"], [[5, 9], [7, 11]])


@pytest.mark.parametrize(
    ("form", "old", "new", "message"),
    [
        *(("stream", b"K\x06Nt", size + b"Nt", "declared size") for size in (b"K\x05", b"K\x07", MINUS)),
        *(("zip", b"K\x06t", size + b"t", "declared size") for size in (b"K\x05", b"K\x07", MINUS)),
        ("stream", b"K\x06Nt", b"NNt", "not described"),
        ("stream", b"K\x06Nt", b"K\x06K\x01t", "not described"),  # a view of another storage
        ("zip", b"K\x06t", b"Nt", "not described"),
        *((form, b"ctorch\nFloatStorage\n", b"X\x03\0\0\0|V4", "not described") for form in WEIGHTS),  # a type of NumPy's
    ],
)
def test_a_storage_of_another_size_or_type_than_told_is_refused(form, old, new, message, tmp_path):
    assert message in refusal(edited(form, tmp_path / "edited.pth", old, new))


@pytest.mark.parametrize("form", WEIGHTS)
def test_tensors_without_a_name_are_refused(form, tmp_path):
    assert "names of tensors" in refusal(edited(form, tmp_path / "edited.pth", b"X\5\0\0\0plain", b"K\1"))


def test_a_file_of_a_big_endian_machine_is_refused(tmp_path):
    with zipfile.ZipFile(WEIGHTS["zip"]) as source, zipfile.ZipFile(tmp_path / "big.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"big" if name.endswith("byteorder") else source.read(name))
    assert "big-endian" in refusal(tmp_path / "big.pth")


@pytest.mark.parametrize("form", WEIGHTS)
def test_a_file_cut_anywhere_is_refused(form, tmp_path):
    data, path = WEIGHTS[form].read_bytes(), tmp_path / "cut.pth"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        refusal(path)
    path.write_bytes(data[:-1])
    refusal(path)


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    path = tmp_path / "notes.pth"
    path.write_bytes(b"no weights\n")
    refusal(path)
    path.write_bytes(pickle.dumps(1, 2) * 3)
    assert "magic number" in refusal(path)
    refusal(tmp_path / "absent.pth")
    refusal(tmp_path)


def test_an_npz_is_read_and_its_pickles_are_not(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"a.weight": np.arange(6.0).reshape(2, 3)})
    [(name, value)] = read_weights(path).items()
    assert name == "a.weight"
    np.testing.assert_array_equal(value, [[0, 1, 2], [3, 4, 5]])
    np.savez(path, a=np.array([Call(os.system, "false")], dtype=object))
    assert "allow_pickle" in refusal(path)
