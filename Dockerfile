# Godis in a container. `docker build -t godis . && docker run -p 127.0.0.1:6379:6379 -v godis:/data godis`
# takes flags behind the image's name: `docker run … godis --default-ttl 0`, `docker run … godis check /data/log.txt`.
# It needs GODIS_REQUIREPASS, or GODIS_PROTECTED_MODE=no on a network that you trust; compose/ has the pool of three.
#
# Kept to what the classic builder knows (no RUN --mount, heredocs or COPY --link), so that it builds without buildx.

FROM python:3.12-slim AS packages
WORKDIR /build
COPY requirements.txt ./
RUN pip install --no-cache-dir --prefix /packages -r requirements.txt

FROM python:3.12-slim
COPY --from=packages /packages /usr/local

# The code belongs to root and lies outside of /data: the server cannot change it, and a volume that is kept
# never hides the code of a newer image. The log is one file, whoever runs: of two containers that share a volume the
# second waits, by `restart`, until the first has stopped. GODIS_DATA_DIR=/data gives each of them a log of its own.
WORKDIR /app
COPY *.py ./
COPY cli ./cli
COPY commands ./commands
COPY keyspace ./keyspace
COPY log ./log
COPY measuring ./measuring
COPY net ./net
COPY pool ./pool
COPY rdb ./rdb
COPY scripts ./scripts
COPY users ./users
COPY values ./values
COPY wire ./wire
RUN python -m compileall -q . && install -d -o 10001 -g 10001 /data

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GODIS_HOST=0.0.0.0 \
    GODIS_LOG=/data/log.txt
USER 10001:10001
VOLUME /data
EXPOSE 6379

# Python is process 1 and handles SIGTERM itself: it answers what it has read, syncs the log and exits 0.
STOPSIGNAL SIGTERM
# The health check gets the flags of the server, such as `docker run godis --port 7000`, from its command line.
# The long start period is for the replay of a long log: the first answered ping ends it.
HEALTHCHECK --interval=5s --timeout=10s --retries=3 --start-period=5m \
    CMD ["sh", "-c", "sed -z '1,/godis[.]py$/d' /proc/1/cmdline | xargs -0 python godis.py ping"]
ENTRYPOINT ["python", "godis.py"]
