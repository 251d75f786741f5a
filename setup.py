"""What pyproject.toml cannot say: in a wheel, the package also holds the directories of SHIPPED."""

from setuptools import find_packages, setup


SHIPPED = ("recipes", "accelerate_configs", "requirements")

setup(
    packages=[*find_packages(include=["usermirrorer*"]), *(f"usermirrorer.{name}" for name in SHIPPED)],
    package_dir={f"usermirrorer.{name}": name for name in SHIPPED},
)
