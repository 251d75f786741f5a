# Two images (docs/install.md shows how to run them):
#   docker build --target cpu --tag usermirrorer:cpu .    vLLM on the CPU, as `make install` sets it up
#   docker build --target gpu --tag usermirrorer:gpu .    on vLLM's own CUDA image of the pinned version

FROM python:3.12.12-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir setuptools==84.2.1 \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM vllm/vllm-openai:v0.31.0 AS gpu
# TOKENIZERS_PARALLELISM holds no token:
# hadolint ignore=DL3064
ENV HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false
RUN --mount=type=bind,source=requirements,target=/requirements \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    uv pip install --system --no-cache -r /requirements/gpu.txt /wheels/*.whl
# Any user may run it (docker run --user): the home is writable, and the name need not be looked up.
RUN useradd --uid 10001 --create-home usermirrorer && chmod 1777 /home/usermirrorer && mkdir --mode 1777 /work
ENV HOME=/home/usermirrorer USER=usermirrorer
USER 10001
WORKDIR /work
ENTRYPOINT ["usermirrorer"]
CMD ["--help"]

FROM python:3.12.12-slim-bookworm AS cpu
# As in the Makefile: one thread serves a tiny model best, and nothing is compiled.
# TOKENIZERS_PARALLELISM holds no token:
# hadolint ignore=DL3064
ENV HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false TORCHDYNAMO_DISABLE=1 OMP_NUM_THREADS=1
# LightGBM needs libgomp, vLLM libnuma; of either, Debian's archive keeps only the newest version:
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/*
# torch without CUDA, which saves gigabytes; then everything else as listed, see requirements/cpu.txt.
RUN --mount=type=bind,source=requirements,target=/requirements \
    --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir uv==0.13.8 \
    && uv pip install --system --no-cache --torch-backend=cpu "$(grep '^torch==' /requirements/cpu.txt)" \
    && uv pip install --system --no-cache --no-deps -r /requirements/cpu.txt /wheels/*.whl
RUN useradd --uid 10001 --create-home usermirrorer && chmod 1777 /home/usermirrorer && mkdir --mode 1777 /work
ENV HOME=/home/usermirrorer USER=usermirrorer
USER 10001
WORKDIR /work
ENTRYPOINT ["usermirrorer"]
CMD ["--help"]
