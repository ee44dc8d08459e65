# The edge, for amd64 and arm64. From the folder of the repository:
#   docker buildx build --file deploy/edge.Dockerfile --platform linux/amd64,linux/arm64 --tag sungrow-edge .

FROM python:3.13-slim-trixie AS builder
WORKDIR /src
COPY requirements requirements
# Only wheels whose hash is known. Neither pip nor what builds the wheel is in the image.
RUN python -m venv --without-pip /opt/sungrow \
    && python -m pip --python /opt/sungrow/bin/python install --no-cache-dir --only-binary :all: \
       --require-hashes --requirement requirements/edge.lock \
    && python -m pip install --no-cache-dir --only-binary :all: \
       --require-hashes --requirement requirements/build.lock
COPY . .
# The edge shows no web page; none is built.
RUN HATCH_BUILD_NO_HOOKS=true python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/sungrow/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim-trixie
COPY --from=builder /opt/sungrow /opt/sungrow
RUN install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/sungrow-edge
ENV PATH=/opt/sungrow/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPOOL_PATH=/var/lib/sungrow-edge/spool.sqlite \
    HEALTH_FILE=/tmp/sungrow-edge-health.json
USER 10001:10001
VOLUME /var/lib/sungrow-edge
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["sungrow-edge", "status", "--alive"]
ENTRYPOINT ["sungrow-edge"]
CMD ["run"]
