"""Names of well-known data sets: in the order of labels, in the words of CLIP."""

import ast
import inspect
import json
import pickle

import pytest

from clipin_jax.data.class_names import class_names, known_datasets, templates
from clipin_jax.data.sources.voc import Voc
from clipin_jax.errors import ClipinError
from tests.conftest import REPOSITORY

COUNTS = {
    "caltech101": 101,
    "caltech101_folders": 102,
    "caltech101_vtab": 102,
    "cars": 196,
    "cifar10": 10,
    "cifar100": 100,
    "country211": 211,
    "dtd": 47,
    "eurosat": 10,
    "fer2013": 7,
    "fgvc_aircraft": 100,
    "flowers": 102,
    "food101": 101,
    "gtsrb": 43,
    "imagenet1k": 1000,
    "mnist": 10,
    "pets": 37,
    "resisc45": 45,
    "stl10": 10,
    "sun397": 397,
    "svhn": 10,
    "voc2007": 20,
    "chestmnist": 14,
    "retinamnist": 5,
}
# The names in CLIP's lists (https://github.com/openai/CLIP), word for word.
OF_CLIP = {
    "caltech101_folders": "Caltech101",
    "cars": "StanfordCars",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "country211": "Country211",
    "dtd": "DescribableTextures",
    "fgvc_aircraft": "FGVCAircraft",
    "flowers": "Flowers102",
    "food101": "Food101",
    "gtsrb": "GTSRB",
    "imagenet1k": "ImageNet",
    "kitti_closest_vehicle_distance": "KITTI",
    "mnist": "MNIST",
    "pcam": "PatchCamelyon",
    "renderedsst2": "SST2",
    "resisc45": "RESISC45",
    "stl10": "STL10",
}
# Those that CLIP lists in an order which is not that of the labels.
IN_ANOTHER_ORDER = {
    "eurosat": "EuroSAT",
    "pets": "OxfordPets",
    "sun397": "SUN397",
    "voc2007": "PascalVOC2007",
}
OTHER_TEMPLATES = ("clevr_count_all", "pcam", "resisc45")  # those of CLIP_benchmark


@pytest.mark.parametrize("dataset", known_datasets())
def test_names_are_unique_and_templates_have_a_placeholder(dataset):
    names, prompts = class_names(dataset), templates(dataset)
    assert all(name and name == " ".join(name.split()) for name in names)
    assert all(prompt.count("{}") == 1 for prompt in prompts) and prompts
    assert len(set(prompts)) == len(prompts)
    # OpenAI's list has two names twice, and so has everyone's who takes it.
    twice = {n for n in names if names.count(n) > 1}
    assert twice == ({"missile", "sunglasses"} if dataset == "imagenet1k" else set())


def test_data_sets_have_the_right_number_of_classes():
    assert {dataset: len(class_names(dataset)) for dataset in COUNTS} == COUNTS


def test_cifar100_is_in_the_order_of_its_fine_labels():
    folders = [name.replace(" ", "_") for name in class_names("cifar100")]
    assert folders == sorted(folders) and len(set(folders)) == 100
    assert [folders[index] for index in (0, 1, 4, 53, 99)] == [
        *("apple", "aquarium_fish", "beaver", "orange", "worm"),
    ]


def test_cifar100_is_in_the_order_of_its_file(data_folder):
    files = sorted(data_folder.rglob("cifar-100-python/meta"))
    if not files:
        pytest.skip("there is no cifar-100-python/meta in the data")
    meta = pickle.loads(files[0].read_bytes(), encoding="latin1")
    fine = [name.replace("_", " ") for name in meta["fine_label_names"]]
    assert class_names("cifar100") == tuple(fine)


def test_voc_is_in_the_official_order():
    names = class_names("voc2007")
    assert names == Voc.classes == tuple(sorted(names))
    assert names[6] == "car" and names[14] == "person" and names[19] == "tvmonitor"


def test_pets_and_flowers_are_in_the_order_of_their_annotations():
    pets = class_names("pets")
    assert pets == tuple(sorted(pets)) and pets[:2] == (
        "Abyssinian",
        "American Bulldog",
    )
    assert pets[5] == "Bengal" and pets[36] == "Yorkshire Terrier"
    assert class_names("flowers")[0] == "pink primrose"
    assert class_names("flowers")[101] == "blackberry lily"


def test_orders_of_sets_that_have_several():
    official, folders = class_names("caltech101"), class_names("caltech101_folders")
    assert folders[0] == "background" and official == folders[1:]
    assert sorted(folders) == sorted(class_names("caltech101_vtab"))
    assert class_names("caltech101_vtab")[4] == "background"
    assert class_names("fer2013")[4:] == ("sad", "surprised", "neutral")
    assert class_names("fer2013_folders")[4:] == ("neutral", "sad", "surprised")


def builder_lists(module):
    """The lists of strings in a builder of tensorflow-datasets, without running it."""
    constants = (
        [each.value for each in node.elts]
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.List | ast.Tuple)
        and node.elts
        and all(isinstance(each, ast.Constant) for each in node.elts)
    )
    return [names for names in constants if len(names) > 9]


def test_pets_and_resisc45_are_those_of_tensorflow_datasets():
    from tensorflow_datasets.datasets.oxford_iiit_pet import (
        oxford_iiit_pet_dataset_builder as pets,
    )
    from tensorflow_datasets.datasets.resisc45 import resisc45_dataset_builder as resisc

    [names] = [names for names in builder_lists(pets) if len(names) == 37]
    assert [name.replace("_", " ").lower() for name in names] == [
        name.lower() for name in class_names("pets")
    ]
    [names] = [names for names in builder_lists(resisc) if len(names) == 45]
    assert tuple(name.replace("_", " ") for name in names) == class_names("resisc45")


def label_file(name):
    import tensorflow_datasets

    root = inspect.getfile(tensorflow_datasets).rpartition("/")[0]
    with open(f"{root}/image_classification/{name}", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def test_sun397_and_others_are_those_of_tensorflow_datasets():
    places = label_file("sun397_labels.txt")
    words = [name[3:].replace("/", " ").replace("_", " ") for name in places]
    assert class_names("sun397") == tuple(words)
    assert class_names("dtd") == tuple(label_file("dtd_key_attributes.txt"))
    food = sorted(label_file("food-101_classes.txt"))  # as torchvision does
    assert class_names("food101") == tuple(name.replace("_", " ") for name in food)
    caltech = label_file("caltech101_labels.txt")
    for folder, name in zip(caltech, class_names("caltech101_vtab"), strict=True):
        word = folder.split("_")[0].removesuffix("s")
        assert word in name or folder in ("faces", "faces_easy")


@pytest.fixture(scope="module")
def of_clip(data_folder):
    path = data_folder / "prompts" / "clip_prompts.json"
    return json.loads(path.read_text(encoding="utf-8"))


def spaced(names):
    return [" ".join(name.split()) for name in names]


def test_names_are_those_of_clip(of_clip):
    for name, clip_name in OF_CLIP.items():
        assert list(class_names(name)) == spaced(of_clip[clip_name]["classes"]), name


def test_names_are_those_of_clip_but_for_the_order_of_labels(of_clip):
    for name, clip_name in IN_ANOTHER_ORDER.items():
        names, listed = class_names(name), spaced(of_clip[clip_name]["classes"])
        assert list(names) != listed, name
        assert sorted(map(str.lower, names)) == sorted(map(str.lower, listed)), name


def test_emotions_are_in_the_order_of_clip(of_clip):
    listed = of_clip["FacialEmotionRecognition2013"]["classes"]
    assert [words[0] for words in listed] == list(class_names("fer2013"))
    assert len(of_clip["CLEVRCounts"]["classes"]) == len(class_names("clevr_count_all"))


def test_templates_are_those_of_clip(of_clip):
    sets = OF_CLIP | IN_ANOTHER_ORDER | {"fer2013": "FacialEmotionRecognition2013"}
    for name, clip_name in sets.items():
        if name not in OTHER_TEMPLATES:
            assert list(templates(name)) == of_clip[clip_name]["templates"], name


def test_an_unknown_set_is_refused_with_the_nearest_name():
    for look_up in (class_names, templates):
        with pytest.raises(ClipinError, match="'cifar_100': did you mean 'cifar100'"):
            look_up("cifar_100")
    with pytest.raises(ClipinError, match="known: bloodmnist"):
        class_names("")


def test_the_file_is_small_and_has_its_license_notices():
    folder = REPOSITORY / "clipin_jax" / "data"
    assert (folder / "class_names.json.gz").stat().st_size < 20_000
    notice = (folder / "class_names.LICENSE").read_text(encoding="utf-8")
    owners = ("OpenAI", "Mehdi Cherti", "MIT License", "MedMNIST Team", "TensorFlow")
    assert all(owner in notice for owner in owners)
