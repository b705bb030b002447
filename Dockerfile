# syntax=docker/dockerfile:1
# The studio in a container, for Linux on x86-64. Apple's GPU cannot be reached from containers.
#
#   docker build -t mlx-finetuning .                                  on the CPU
#   docker build -t mlx-finetuning:cuda --build-arg EXTRA=cuda13 .    on an NVIDIA GPU
#   docker run --rm -p 127.0.0.1:8501:8501 -v mlx-finetuning:/data mlx-finetuning
#   docker run --rm --gpus all … mlx-finetuning:cuda                  (NVIDIA Container Toolkit)
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY data data
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
# MLX's own BLAS is ten times slower than OpenBLAS, and with g++ it fuses operations as it runs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libopenblas0-pthread \
    && rm -rf /var/lib/apt/lists/*
ARG EXTRA=""
COPY requirements.txt /tmp/pins/
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/pins/requirements.txt \
        "$(echo /tmp/wheels/*.whl)${EXTRA:+[$EXTRA]}" \
    && rm -rf /tmp/pins /tmp/wheels \
    && python -m mlx_finetuning.utils.native_kernels

# Kernels for this image's MLX and Python; a GPU needs none.
RUN python -m mlx_finetuning.utils.native_kernels

RUN useradd --create-home --uid 1000 studio && install -d -o studio -g studio /data
USER 1000:1000
ENV MLX_FINETUNING_HOME=/data
VOLUME /data
WORKDIR /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
# Of the container, every address: what of it can be reached from outside is said by `-p`.
ENTRYPOINT ["mlx-finetuning"]
CMD ["serve", "--address", "0.0.0.0"]
