# One image for the server, the workers and the one-shot commands: `docker run runfold server`, `… worker`, `… migrate`.
# Base images and packages are pinned; It contains no Postgres, Kafka or Java.

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /build
COPY requirements/build.txt requirements/server.txt requirements/
RUN python -m venv /opt/runfold \
    && /opt/runfold/bin/pip install --no-cache-dir --require-hashes -r requirements/server.txt \
    && python -m pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY log log
COPY storage storage
COPY producers producers
COPY projections projections
COPY consumers consumers
COPY server server
COPY stack stack
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/runfold/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl

FROM python:3.11.14-slim-bookworm
RUN groupadd --system --gid 10001 runfold \
    && useradd --system --uid 10001 --gid runfold --home-dir /var/lib/runfold --create-home runfold
COPY --from=build /opt/runfold /opt/runfold
ENV PATH=/opt/runfold/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUNFOLD_HOST=0.0.0.0 \
    RUNFOLD_PORT=5000 \
    RUNFOLD_WORKER_PORT=5001
WORKDIR /var/lib/runfold
USER 10001:10001
EXPOSE 5000 5001
STOPSIGNAL SIGTERM
# Live, not ready: an orchestrator that replaces unhealthy containers must not do so because Kafka is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 5000, timeout=4); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["runfold"]
CMD ["server"]
