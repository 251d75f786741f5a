"""What pyproject.toml cannot say: `recipes` and `accelerate_configs`, at the root here, are in the package in a wheel."""

from setuptools import find_packages, setup


SHIPPED = ("recipes", "accelerate_configs")

setup(
    packages=[*find_packages(include=["usermirrorer*"]), *(f"usermirrorer.{name}" for name in SHIPPED)],
    package_dir={f"usermirrorer.{name}": name for name in SHIPPED},
)
