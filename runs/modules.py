"""What is known of modules by their names alone, for environments that nobody has built yet."""

import sys

# Module → packages that bring it, where no package has its name. The first is the one to suggest.
PACKAGES: dict[str, tuple[str, ...]] = {
    "sklearn": ("scikit-learn",), "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv"),
    "PIL": ("pillow",), "yaml": ("pyyaml",), "bs4": ("beautifulsoup4",), "dateutil": ("python-dateutil",), "skimage": ("scikit-image",),
    "dotenv": ("python-dotenv",), "Crypto": ("pycryptodome",), "serial": ("pyserial",), "git": ("gitpython",), "jwt": ("pyjwt",),
    "attr": ("attrs",), "google": ("protobuf",), "osgeo": ("gdal",), "magic": ("python-magic",), "docx": ("python-docx",),
    "pptx": ("python-pptx",), "fitz": ("pymupdf",), "usb": ("pyusb",), "zmq": ("pyzmq",), "MySQLdb": ("mysqlclient",),
    "psycopg2": ("psycopg2-binary", "psycopg2"), "ruamel": ("ruamel.yaml",), "umap": ("umap-learn",), "faiss": ("faiss-cpu", "faiss-gpu", "faiss"),
    "pytorch_lightning": ("pytorch-lightning",), "torch": ("torch", "pytorch"), "tensorboard": ("tensorboard", "tensorflow"),
    "keras": ("keras", "tensorflow"), "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"), "Bio": ("biopython",),
    "rdkit": ("rdkit", "rdkit-pypi"), "sentence_transformers": ("sentence-transformers",), "lightning": ("lightning",),
    "hydra": ("hydra-core",), "imblearn": ("imbalanced-learn",), "mpl_toolkits": ("matplotlib",), "pylab": ("matplotlib",),
    "pkg_resources": ("setuptools",), "setuptools": ("setuptools",), "wx": ("wxpython",), "OpenSSL": ("pyopenssl",), "ldap": ("python-ldap",),
    "Levenshtein": ("levenshtein", "python-levenshtein"), "fasttext": ("fasttext", "fasttext-wheel"),
    "xgboost": ("xgboost", "xgboost-cpu", "py-xgboost"), "jose": ("python-jose",), "slugify": ("python-slugify",), "win32api": ("pywin32",),
    "community": ("python-louvain",), "einops": ("einops",), "sacred": ("sacred",), "pyspark": ("pyspark",), "gi": ("pygobject",),
}  # fmt: skip
# Package → modules of others that come with it. Enough for what is imported every day; a build says it exactly.
BRINGS: dict[str, tuple[str, ...]] = {
    "pandas": ("numpy", "dateutil", "pytz", "six"), "scikit-learn": ("numpy", "scipy", "joblib", "threadpoolctl"), "scipy": ("numpy",),
    "matplotlib": ("numpy", "PIL", "dateutil", "packaging", "cycler", "kiwisolver", "pyparsing", "six"),
    "seaborn": ("matplotlib", "pandas"), "torchvision": ("torch", "numpy", "PIL"), "torchaudio": ("torch",),
    "torch": ("jinja2", "networkx", "sympy", "filelock", "fsspec", "typing_extensions"), "lightning": ("torch", "torchmetrics", "yaml", "tqdm"),
    "pytorch-lightning": ("torch", "torchmetrics", "yaml", "tqdm"), "torchmetrics": ("torch", "numpy"), "timm": ("torch", "torchvision", "yaml"),
    "tensorflow": ("numpy", "keras", "h5py", "absl", "six", "requests", "google", "wrapt", "tensorboard"), "keras": ("numpy", "h5py"),
    "transformers": ("numpy", "requests", "tqdm", "yaml", "huggingface_hub", "tokenizers", "safetensors", "filelock", "packaging"),
    "datasets": ("numpy", "pandas", "pyarrow", "requests", "tqdm", "huggingface_hub", "fsspec"), "scikit-image": ("numpy", "scipy", "PIL", "networkx"),
    "opencv-python": ("numpy",), "opencv-python-headless": ("numpy",), "xgboost": ("numpy", "scipy"), "lightgbm": ("numpy", "scipy"),
    "mlflow": ("numpy", "pandas", "scipy", "sklearn", "matplotlib", "yaml", "requests", "sqlalchemy", "flask", "git", "pyarrow"),
    "statsmodels": ("numpy", "pandas", "scipy", "patsy"), "pyspark": ("py4j",), "requests": ("urllib3", "certifi", "idna", "charset_normalizer"),
    "jupyter": ("ipykernel", "IPython", "notebook"), "dask": ("yaml", "fsspec", "toolz"), "optuna": ("numpy", "sqlalchemy", "tqdm", "yaml"),
    "accelerate": ("torch", "numpy", "yaml", "huggingface_hub"), "spacy": ("numpy", "requests", "tqdm", "pydantic"), "numba": ("numpy", "llvmlite"),
    "gensim": ("numpy", "scipy"), "catboost": ("numpy", "pandas", "scipy", "matplotlib"), "shap": ("numpy", "pandas", "scipy", "sklearn", "tqdm", "numba"),
    "imbalanced-learn": ("sklearn", "numpy", "scipy"), "umap-learn": ("numpy", "scipy", "sklearn", "numba"),
    "hydra-core": ("omegaconf",), "beautifulsoup4": ("soupsieve",),
}  # fmt: skip
REMOVED: dict[str, int] = {
    "distutils": 12, "imp": 12, "asynchat": 12, "asyncore": 12, "smtpd": 12, "cgi": 13, "cgitb": 13, "telnetlib": 13, "crypt": 13,
    "pipes": 13, "imghdr": 13, "sndhdr": 13, "audioop": 13, "nntplib": 13, "uu": 13, "xdrlib": 13, "chunk": 13, "aifc": 13, "sunau": 13,
    "mailcap": 13, "msilib": 13, "nis": 13, "ossaudiodev": 13, "spwd": 13, "lib2to3": 13,
}  # fmt: skip
"""Modules that left the standard library, with the 3.x in which they were gone."""
STANDARD = (
    frozenset(sys.stdlib_module_names) | frozenset(REMOVED) | {"compression", "annotationlib", "pathlib", "_typeshed"}
)
INSTEAD = {"azureml": "In a run `from runstead import Run` does the same, with nothing installed.", "mlflow": ""}


def package_of(module: str) -> str:
    """The package to install for a module, as far as its name tells."""
    top = module.partition(".")[0]
    if top == "azureml":
        return "-".join(module.split(".")[:2])
    if module.startswith("google.cloud."):
        return "-".join(module.split(".")[:3]).replace("_", "-")
    known = PACKAGES.get(top)
    return known[0] if known else top.replace("_", "-") if top.islower() else top


def normal(name: str) -> str:
    """A package's name in its one spelling."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)


def expected(packages: "set[str]") -> set[str]:
    """Modules, in lower case, that packages of these (normal) names should bring, by what is written above."""
    found: set[str] = {name.replace("-", "_") for name in packages} | packages
    found |= {module.lower() for module, names in PACKAGES.items() if any(normal(name) in packages for name in names)}
    left = [module for name in packages for module in BRINGS.get(name, ())]
    while left:
        module = left.pop()
        if module.lower() not in found:
            found.add(module.lower())
            left += BRINGS.get(normal(package_of(module)), ())
    return found
