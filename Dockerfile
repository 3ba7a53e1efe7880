# The README's main command on a CPU:
#   docker build -t transcriptome-diffusion .
#   docker run --rm -v "$PWD/data:/project/data" transcriptome-diffusion
# Another environment: docker run ... transcriptome-diffusion kedro run --env gtex
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /project
RUN pip install "torch>=2.6,<2.14" --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE .telemetry ./
COPY src src
RUN pip install -e .
COPY conf conf
VOLUME /project/data
CMD ["kedro", "run"]
