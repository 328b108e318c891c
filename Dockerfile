# Three images. The bundles are mounted at /models.
#   docker build -t diabolo .                         the service: torch, no torchvision, no Lightning
#   docker build -t diabolo --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .      without CUDA
#   docker build -t diabolo:slim --target slim .      bundles with ONNX graphs, on the CPU, without torch
#   docker build -t diabolo:train --target train .    the service, and what training needs
# Each installs into an environment that has no pip of its own: the base image's does it.
FROM python:3.11-slim-bookworm AS build-slim
COPY requirements/service-onnx.txt /build/requirements/
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir -r /build/requirements/service-onnx.txt
COPY pyproject.toml README.md LICENSE /build/
COPY bundle /build/bundle
COPY cli /build/cli
COPY service /build/service
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /build

FROM python:3.11-slim-bookworm AS base
COPY deploy/health.sh /opt/health.sh
# What is written lies in volumes: the folders are here so that new volumes belong to the user who writes to them. The
# script has to be readable by that user, whatever the umask of the checkout.
RUN chmod 644 /opt/health.sh \
 && useradd --system --no-create-home --uid 10001 diabolo \
 && install -d -o diabolo /models /state /data /runs
USER 10001
WORKDIR /
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DIABOLO_HOST=0.0.0.0 DIABOLO_PORT=8000 DIABOLO_MODELS_DIR=/models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --retries=3 CMD ["bash", "/opt/health.sh"]
ENTRYPOINT ["diabolo"]
CMD ["serve"]
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="diabolo" \
      org.opencontainers.image.description="Trains autoencoders offline and serves them over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.base.name="python:3.11-slim-bookworm"

FROM base AS slim
COPY --from=build-slim /opt/venv /opt/venv

FROM python:3.11-slim-bookworm AS torch
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=
COPY requirements/service.txt /build/requirements/
# The lock first: it also pins what torch needs, so that only torch itself is looked for on its own index. Of torch, what
# C++ is compiled and tested with stays behind.
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir -r /build/requirements/service.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir \
      ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==${TORCH_VERSION}" \
 && cd /opt/venv/lib/python3*/site-packages/torch \
 && rm -rf include test share/cmake \
 && find bin -type f ! -name torch_shm_manager -delete

# The newest torchvision wants one torch exactly, and only downloads MNIST and Fashion-MNIST here: it is not in the lock.
FROM torch AS build-train
ARG TORCH_INDEX=
ARG TORCHVISION_VERSION=
COPY requirements/training.txt /build/requirements/
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps -r /build/requirements/training.txt \
 && if [ -n "$TORCHVISION_VERSION" ]; then python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
      ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torchvision==$TORCHVISION_VERSION"; fi
COPY pyproject.toml README.md LICENSE /build/
COPY bundle /build/bundle
COPY cli /build/cli
COPY service /build/service
COPY training /build/training
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-build-isolation /build

FROM base AS train
COPY --from=build-train /opt/venv /opt/venv
CMD ["train", "--list"]

FROM torch AS build
COPY pyproject.toml README.md LICENSE /build/
COPY bundle /build/bundle
COPY cli /build/cli
COPY service /build/service
RUN python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-build-isolation /build

# Last, so that it is what is built where no target is named.
FROM base AS service
COPY --from=build /opt/venv /opt/venv
