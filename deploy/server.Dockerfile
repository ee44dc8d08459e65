# The server, for amd64 and arm64. From the folder of the repository:
#   docker buildx build --file deploy/server.Dockerfile --platform linux/amd64,linux/arm64 --tag sungrow-server .

FROM python:3.13-slim-trixie AS builder
WORKDIR /src
COPY requirements requirements
# Only wheels whose hash is known. Neither pip, nor Node, nor what builds the wheel is in the image.
RUN python -m venv --without-pip /opt/sungrow \
    && python -m pip --python /opt/sungrow/bin/python install --no-cache-dir --only-binary :all: \
       --require-hashes --requirement requirements/server.lock \
    && python -m pip install --no-cache-dir --only-binary :all: \
       --require-hashes --requirement requirements/build.lock --requirement requirements/node.lock
COPY . .
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/sungrow/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim-trixie
# pg_dump and pg_restore for `sungrow-server backup` and `restore`, as old as the database of compose.yaml.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-client-17 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /opt/sungrow /opt/sungrow
ENV PATH=/opt/sungrow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LISTEN_HOST=0.0.0.0 \
    LISTEN_PORT=8080
USER 10001:10001
EXPOSE 8080
# Asked over plain HTTP inside the container: TLS is ended by the proxy in front, which TRUSTED_PROXIES names.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ[\"LISTEN_PORT\"]}/health', timeout=4)"]
ENTRYPOINT ["sungrow-server"]
CMD ["run"]
