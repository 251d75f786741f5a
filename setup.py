"""What pyproject.toml cannot say: in a wheel, `recipes` and `accelerate_configs` are inside the package."""

from setuptools import find_packages, setup


SHIPPED = ("recipes", "accelerate_configs")

setup(
    packages=[*find_packages(include=["usermirrorer*"]), *(f"usermirrorer.{name}" for name in SHIPPED)],
    package_dir={f"usermirrorer.{name}": name for name in SHIPPED},
)
