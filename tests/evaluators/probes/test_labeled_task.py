import numpy as np
import pytest

from clipin_jax.errors import ClipinError
from clipin_jax.evaluators.probes.labeled_task import make_task
from tests.support.in_memory import Clusters


def test_several_classes_may_be_one_class_of_the_other_source():
    train = Clusters(40, 2, names=("healthy", "ill"))
    graded = Clusters(30, 3, names=("none", "mild", "severe"))
    classes = (("none", "healthy"), ("mild", "ill"), ("severe", "ill"))
    task = make_task(graded, train, classes)
    grades = np.array([record["label"] for record in graded])
    np.testing.assert_array_equal(task.labels, grades > 0)
    graded = Clusters(30, 3, multi_label=True, names=graded.classes)
    train = Clusters(40, 2, multi_label=True, names=train.classes)
    many = make_task(graded, train, classes)
    np.testing.assert_array_equal(many.labels[:, 1], grades > 0)


@pytest.mark.parametrize(
    ("source", "train", "classes", "message"),
    [
        (Clusters(9, 3), Clusters(9, 2), (), "has 3 classes.*'class 2'.*classes"),
        (Clusters(9, 3), Clusters(9, 3), {"clas 1": "class 1"}, "mean 'class 1'"),
        (Clusters(9, 3), Clusters(9, 3), {"class 1": "clas 1"}, "mean 'class 1'"),
        (Clusters(9, 3), Clusters(9, 3), ("abc",), "classes must say"),
        (Clusters(9, 3), Clusters(9, 3, multi_label=True), (), "of one kind"),
        (Clusters(9, 1), Clusters(9, 1), (), "train_source has 1 classes"),
        (Clusters(9, 3), Clusters(9, 3, labels=[0, 1] * 4 + [0]), (),
         "train_source has no image of 'class 2', source has"),
        (Clusters(2, 2, labels=[0, 0]), Clusters(9, 2, labels=[0] * 9), (),
         "all images of train_source are of one class, class 0"),
    ],
)  # fmt: skip
def test_sources_with_other_classes_are_refused(source, train, classes, message):
    with pytest.raises(ClipinError, match=message):
        make_task(source, train, classes)
