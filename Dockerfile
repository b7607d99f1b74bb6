# TP-Seg on a CPU, as a command: docker build -t tpseg . && docker run --rm -v "$PWD:/data" tpseg run scan.nii.gz --task brain_tumor
# With a GPU: --build-arg TORCH_OPTIONS="" and docker run --gpus all. The CPU build of PyTorch is a third of the size; its
# index is named on pytorch.org under "Get started": --build-arg TORCH_OPTIONS="--index-url ADDRESS".
FROM python:3.11-slim

ARG TORCH_OPTIONS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ git libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# what changes rarely comes first, so that a build after an edit is quick
RUN pip install "setuptools>=77" wheel \
    && pip install ${TORCH_OPTIONS} torch torchvision \
    && SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2==1.1.0

WORKDIR /opt/monai_tpseg
COPY setup.cfg pyproject.toml README.md LICENSE NOTICE ./
COPY transforms transforms
COPY bundles bundles
COPY monai_tpseg monai_tpseg
RUN pip install ".[annotate]"

# results belong to whoever starts the container with --user; nothing is written outside of /data
RUN useradd --create-home tpseg
USER tpseg
WORKDIR /data
ENTRYPOINT ["tpseg"]
CMD ["--help"]
