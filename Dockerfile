# Rewind in a container: see docs/operating.rst.
#
#   docker build -t rewind .
#   docker run -d --name rewind -e REWIND_INSECURE=1 -p 127.0.0.1:9090-9092:9090-9092 -v rewind:/data rewind
#   docker exec rewind rewind read
#
# 3.12 is the newest Python for which plyvel has a wheel, and so LevelDB is the default store.

FROM python:3.12-slim AS build
WORKDIR /source
COPY setup.py pyproject.toml README.rst LICENSE ./
COPY rewind rewind
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.12-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index /wheels/*.whl \
    && useradd --system --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin rewind \
    && install -d -o rewind -g rewind -m 0700 /data
ENV PYTHONUNBUFFERED=1 \
    REWIND_STORE=/data \
    REWIND_INCOMING_BIND=tcp://0.0.0.0:9090 \
    REWIND_STREAMING_BIND=tcp://0.0.0.0:9091 \
    REWIND_TOPIC_BIND=tcp://0.0.0.0:9092
# Within a container 127.0.0.1 is reached by nobody else. There are no passwords, so REWIND_INSECURE=1
# is left to who runs it and decides which ports to publish, and to whom.
USER rewind
WORKDIR /data
VOLUME /data
EXPOSE 9090 9091 9092
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["rewind", "ping", "--wait", "5"]
ENTRYPOINT ["rewind"]
