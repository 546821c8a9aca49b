# syntax=docker/dockerfile:1
#
# PatchPlan's image: the API and the worker are the same image with another command.
#
#   docker build --target cpu  -t patchplan:cpu .
#   docker build --target cuda -t patchplan:cuda .     # needs an NVIDIA driver where it runs, and only there
#
# Nothing is compiled: everything comes as wheels, so there is no build stage to copy from.

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PATH=/opt/venv/bin:$PATH
RUN groupadd --system --gid 10001 patchplan \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin patchplan \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data \
    && python -m venv /opt/venv
WORKDIR /opt/patchplan
COPY pyproject.toml constraints.txt constraints-cpu.txt ./
# what is needed, training, its trackers and traces too, without the sources: made anew only when one of these files changes
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
    extras = project["optional-dependencies"]; \
    print(*project["dependencies"], *extras["train"], *extras["trackers"], *extras["otel"], sep="\n")' \
    > /tmp/requirements.txt


# torch without CUDA is at PyTorch's own index only; the rest, what it needs itself too, does not come from there
FROM base AS cpu-packages
RUN pip install --no-deps --index-url https://download.pytorch.org/whl/cpu -c constraints-cpu.txt torch torchvision \
    && pip install -c constraints-cpu.txt -r /tmp/requirements.txt

FROM base AS cuda-packages
RUN pip install -c constraints-cpu.txt -r /tmp/requirements.txt


FROM cpu-packages AS cpu
COPY . .
RUN pip install --no-deps --editable .
ENV PATCHPLAN_DATA_DIR=/data \
    PATCHPLAN_HOST=0.0.0.0 \
    PATCHPLAN_PORT=8000 \
    PATCHPLAN_LOG_JSON=true
USER 10001:10001
VOLUME /data
EXPOSE 8000
# for the API; a worker's is in docker-compose.yml
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# SIGTERM reaches the process itself: no shell lies between, and it stops what it started
STOPSIGNAL SIGTERM
CMD ["patchplan", "api"]

FROM cuda-packages AS cuda
COPY . .
RUN pip install --no-deps --editable .
ENV PATCHPLAN_DATA_DIR=/data \
    PATCHPLAN_HOST=0.0.0.0 \
    PATCHPLAN_PORT=8000 \
    PATCHPLAN_LOG_JSON=true \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["patchplan", "api"]
