# The service alone: no torchvision, no Lightning. The bundles are mounted at /models.
#   docker build -t diabolo .
#   docker build -t diabolo --build-arg TORCH_VERSION=2.13.0 --build-arg TORCH_INDEX=<PyTorch's CPU wheel index> .
#   docker build -t diabolo:slim --target slim .     bundles with ONNX graphs, on the CPU, without torch
FROM python:3.11-slim-bookworm AS build-slim
COPY requirements/service-onnx.txt /build/requirements/
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -r /build/requirements/service-onnx.txt
COPY pyproject.toml README.md LICENSE /build/
COPY bundle /build/bundle
COPY cli /build/cli
COPY service /build/service
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps /build

FROM python:3.11-slim-bookworm AS base
LABEL org.opencontainers.image.title="diabolo" \
      org.opencontainers.image.description="Serves autoencoders over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --no-create-home --uid 10001 diabolo
USER diabolo
WORKDIR /
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DIABOLO_HOST=0.0.0.0 DIABOLO_PORT=8000 DIABOLO_MODELS_DIR=/models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"DIABOLO_PORT\"]}/readyz', timeout=2)"]
ENTRYPOINT ["diabolo"]
CMD ["serve"]

FROM base AS slim
COPY --from=build-slim /opt/venv /opt/venv

FROM python:3.11-slim-bookworm AS build
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=
COPY requirements/service.txt /build/requirements/
# The lock first: it also pins what torch needs, so that only torch itself is looked for on its own index.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir -r /build/requirements/service.txt \
 && /opt/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==${TORCH_VERSION}"
COPY pyproject.toml README.md LICENSE /build/
COPY bundle /build/bundle
COPY cli /build/cli
COPY service /build/service
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation /build

FROM base AS service
COPY --from=build /opt/venv /opt/venv
